// SPDX-License-Identifier: Apache-2.0
// Keys and tokens made once with Python's cryptography 38, so that our verifying is held against another's
// signing. All tokens have the same claims; `exp` is 2000000000, `nbf` 1000000000.
#pragma once

#include <string>
#include <utility>
#include <vector>

namespace culvert::vectors {

inline const std::string kJwks =
    "{\"keys\":[{\"kty\":\"RSA\",\"kid\":\"rsa\",\"n\":"
    "\"0QnJtY8VzRL32r4qGlyHBVfnuI4bFTY7Lor3g4Wq6dz6E0DxlMbG2"
    "Y4CfI6FI0CP8LeY4sV8ip5YQzln3z7ZJuuekpLTQ0rL8lnq38azaJzMKyjLj1aTOt00wyEuvZaS6oZEaYqiOWqqob50_"
    "XXEpdXvdglEuf6lPfByGjDJasrJ6t-FEgm0X-jrEm3OqQf1cVLNNb49mw77_61iOduyvGtEACCJNvRPgwm7bGqP9jGqx"
    "E1MFxFvOJ4qqPE4cV2WbX8VAUyPVQ2yg0jgPW0CTDAipU9UJ4FWpPvzlT9NhsDlSPSJ0_GBy55xI3tSzV36wwQ05bZkj"
    "sxoBsr_FCg9OQ\",\"e\":\"AQAB\",\"use\":\"sig\"},{\"kty\":\"EC\",\"kid\":\"ec256\",\"crv\":\"P-256\","
    "\"x\":\"XVDc_0u-"
    "4zgA6F1-A0zjPKoN02OtGax9ujgGJkzj7oE\",\"y\":\"0SyLwhIEtF33QRiTvOD9oVdcFvu6WQNh_mkT9Prab64\"},{\"kt"
    "y\":\"EC\",\"kid\":\"ec384\",\"crv\":\"P-384\",\"x\":"
    "\"w2UsXGi35zDL9rROvKJswgEiCfoWBzVrlGij8jEkHHBmJ1JH0yn"
    "A02T5gPcoZuiU\",\"y\":\"yKZMddTfzTpWlf0Ijj4zms-NnCV2tOkQMhPk_jDV8HHR2A058X4XUoGUDVCD22Ac\"},{\"kty"
    "\":\"EC\",\"kid\":\"ec512\",\"crv\":\"P-521\",\"x\":\"AXMHqX8--Dlrn7Z9ifqm6H37893sV0LrXE1mmQq7kA-"
    "jC938Sn6B"
    "C8IrQH1qXALSukwibaBtsqKuA90JgTs6mWnx\",\"y\":\"AEytnwey2vCLuIlNcKtwenNifIYBsH8HCVdLcgEnvUYdSoHbn"
    "TWjm1MAp-qftMRrrYDaPxWhug6lxRvtMzDALeWe\"},{\"kty\":\"OKP\",\"kid\":\"ed\",\"crv\":\"Ed25519\",\"x\":"
    "\"fCKqA"
    "63vjFVa7YrbH2ZOY_MJxlSflmKyvGQDxCB4Eic\"}]}";

// RSA of 1024 bits.
inline const std::string kSmallRsa =
    "{\"kty\":\"RSA\",\"kid\":\"small\",\"n\":\"3H-larRT2r3qfyJAz-1wTdH7MELA-8xQ383jFgYNh7iQGg3Q7zBJjQc3U4E7"
    "Y0YistYGvbUaR02bMbaYPAS4GbZmVAvVRvRymDVlSxMMa65AUGn1uLVjACbWYH67uns7Sd1I0Y5uXbJ6q-IgvFc3ClSn"
    "AhxVZpM38UQEnK2Y_W0\",\"e\":\"AQAB\"}";

inline const std::vector<std::pair<std::string, std::string>> kTokens = {
    {"RS256",
     "eyJhbGciOiJSUzI1NiIsImtpZCI6InJzYSIsInR5cCI6IkpXVCJ9.eyJpc3MiOiJodHRwczovL2lkcC5leGFtcGxlIiw"
     "ic3ViIjoiYWxpY2UiLCJhdWQiOlsic2hvcCIsImJpbGxpbmciXSwiYXpwIjoiYXBwIiwiZXhwIjoyMDAwMDAwMDAwLCJ"
     "uYmYiOjEwMDAwMDAwMDAsInNjb3BlIjoicmVhZCB3cml0ZSIsInJlYWxtIjp7InJvbGVzIjpbImFkbWluIiwidXNlciJ"
     "dLCJsZXZlbCI6N30sInZpcCI6dHJ1ZSwicmF0aW8iOjAuNSwibm9uZSI6bnVsbH0.GgAZr_EbuY_u7vzGXVMfw74_9TM"
     "3VOPgX-DDOtU1YOg5UTqZL8-UDBFUMtOVYSAPr2IiKTcc4zx0i1NggZJzrLU2RBvofRulkjvYJqGvo8z7whkyBJSNKK2"
     "-7lJAbNZT-QRqvnCNCZAUlOS3t9Y35czPNkZCtuPP5DGfRxZ-waJ4DXT8Fk-kyg-fe-FzEHYdapzie3fiOvhNsHKRVSC"
     "pxFe2YiEpfzplfLirHkHpK_hGIaMgXjlcyXTvsb8Qdy00HXMp1gARb_0lnv684FpZhDBk2E9ZPNXlyta28KiDWFYnvUn"
     "UP36jgOz-4GswxsurSihxVmeKjX0iO2URCIA2kA"},
    {"RS384",
     "eyJhbGciOiJSUzM4NCIsImtpZCI6InJzYSIsInR5cCI6IkpXVCJ9.eyJpc3MiOiJodHRwczovL2lkcC5leGFtcGxlIiw"
     "ic3ViIjoiYWxpY2UiLCJhdWQiOlsic2hvcCIsImJpbGxpbmciXSwiYXpwIjoiYXBwIiwiZXhwIjoyMDAwMDAwMDAwLCJ"
     "uYmYiOjEwMDAwMDAwMDAsInNjb3BlIjoicmVhZCB3cml0ZSIsInJlYWxtIjp7InJvbGVzIjpbImFkbWluIiwidXNlciJ"
     "dLCJsZXZlbCI6N30sInZpcCI6dHJ1ZSwicmF0aW8iOjAuNSwibm9uZSI6bnVsbH0.AKdF2GDzLAnndG1fJjq4aS5Ldo_"
     "wYMIdYl9mIvM0MlzKey_QiFGZ57eZhpfSnV1wEAepL-vkduQ9XrymeRoJLwU2vCZAgK4hZJhT4Ihr2YZ-Vfhyga7WnDL"
     "ax3_2CvxPA1n7u-hhdFLaEa4FX3Ia1Pztnu3zRZuX_IeuFVCTseOQOo1gSdTYyeaVKPNr4miSXuHksmFqMhReg9LHJVc"
     "N8ov8wslFbV1Bi-hM1rCip-qmdSLgTQxlaqrFepebQuXdzVhtZMkX1F6noRY3-clCBv6eRggOIWU_P6AcOxofIrW1kt9"
     "WNUbaHT5UjzmbFGZdPZcj1LM6a5nnKfNWtBdRSQ"},
    {"RS512",
     "eyJhbGciOiJSUzUxMiIsImtpZCI6InJzYSIsInR5cCI6IkpXVCJ9.eyJpc3MiOiJodHRwczovL2lkcC5leGFtcGxlIiw"
     "ic3ViIjoiYWxpY2UiLCJhdWQiOlsic2hvcCIsImJpbGxpbmciXSwiYXpwIjoiYXBwIiwiZXhwIjoyMDAwMDAwMDAwLCJ"
     "uYmYiOjEwMDAwMDAwMDAsInNjb3BlIjoicmVhZCB3cml0ZSIsInJlYWxtIjp7InJvbGVzIjpbImFkbWluIiwidXNlciJ"
     "dLCJsZXZlbCI6N30sInZpcCI6dHJ1ZSwicmF0aW8iOjAuNSwibm9uZSI6bnVsbH0.fczIAmqClDVI5pfyG4gg1rMRCvi"
     "j-tYvugJXiTavNoUa70fvHyYo_maWR00FE7OdIiTlSd8JqpMtuEva-tvvrN52RMnV6DxPZliL152cOp13zJgPML0sIw6"
     "BEcbgYUT_YS--MKe6H_sxXhZUvZYgWHWNddH64iLDpyemRuPZRpTtcsKbM5q3vKpMb1XyMxKeYdRRKPlXgXALacOXWTi"
     "d8qmCw_aNF7nHfRqVmOfdHYN0qlmXareUrk6BHIxp6Qc0aPfjZl8EtaERXF_UOL3mbiIzXHVFcwr2HHGKTgaAr9mHKzt"
     "oeEZhy5uRk73Ntzt0IJWZAUCLmB5pr_yCzf85-A"},
    {"PS256",
     "eyJhbGciOiJQUzI1NiIsImtpZCI6InJzYSIsInR5cCI6IkpXVCJ9.eyJpc3MiOiJodHRwczovL2lkcC5leGFtcGxlIiw"
     "ic3ViIjoiYWxpY2UiLCJhdWQiOlsic2hvcCIsImJpbGxpbmciXSwiYXpwIjoiYXBwIiwiZXhwIjoyMDAwMDAwMDAwLCJ"
     "uYmYiOjEwMDAwMDAwMDAsInNjb3BlIjoicmVhZCB3cml0ZSIsInJlYWxtIjp7InJvbGVzIjpbImFkbWluIiwidXNlciJ"
     "dLCJsZXZlbCI6N30sInZpcCI6dHJ1ZSwicmF0aW8iOjAuNSwibm9uZSI6bnVsbH0.c60el9IOP7JdzBtgMbboYUF20c7"
     "ToS3agr-DjgAdA9yDXweo9hgaTGj62HkHlOLVp3WGthYdpMpvHfq0fyCan2ERIqi90UT9zRGe70cKPfwwsKCDawsN2q-"
     "dG59q0psNgK_b-JjcZasnbWm9NWUpDR0iYolOSpuE24h2uCpUZWlZ2e35qGtM60w0JXS-axYAoMx3PVwXMryLmFL7VsD"
     "GLv2t3K26B-2YAO8FLds_MHtCeloQTQPXwfQX02ok9-nMPufGW9yBTzv18agf49YqJ5CPK8hOfPPLQiSXjiqlrpyqOE4"
     "IuegXLclSOITqo_7z_VLDs5b8TEZrk75_OvEMWA"},
    {"PS384",
     "eyJhbGciOiJQUzM4NCIsImtpZCI6InJzYSIsInR5cCI6IkpXVCJ9.eyJpc3MiOiJodHRwczovL2lkcC5leGFtcGxlIiw"
     "ic3ViIjoiYWxpY2UiLCJhdWQiOlsic2hvcCIsImJpbGxpbmciXSwiYXpwIjoiYXBwIiwiZXhwIjoyMDAwMDAwMDAwLCJ"
     "uYmYiOjEwMDAwMDAwMDAsInNjb3BlIjoicmVhZCB3cml0ZSIsInJlYWxtIjp7InJvbGVzIjpbImFkbWluIiwidXNlciJ"
     "dLCJsZXZlbCI6N30sInZpcCI6dHJ1ZSwicmF0aW8iOjAuNSwibm9uZSI6bnVsbH0.v0z2xHqxUOEdQA1Gcu8ahi06-nd"
     "V_ZfHGzYEtq8UaymWZj7I6UsBxqqr0V0UvcTjX4Fc4xBiGohPKv1nSbGg9Jc09Q7YNbb9gGuJXhg9xAWhYeFV76FHFTZ"
     "aAXEv-3xVXQnUNT_IgoQCTI_h5C4i3hkOoJaQi1lWhsocrzlgsIEFEF_GHrpV3DK0-pd70BGA8A3Vg-YyHamBMTcWNuB"
     "Bx_pY13FFJkI_fpr5D_TIiB1OL9oqFXWau1r6tkpnzXlybkPm9ArHonx8W1Xkm1wVhpqrEmeJ6emDBA8VF87HJo0hWft"
     "YOmrTn_4FpfXPcgeRihJqTbTIbnKUY7cDwDd1aA"},
    {"PS512",
     "eyJhbGciOiJQUzUxMiIsImtpZCI6InJzYSIsInR5cCI6IkpXVCJ9.eyJpc3MiOiJodHRwczovL2lkcC5leGFtcGxlIiw"
     "ic3ViIjoiYWxpY2UiLCJhdWQiOlsic2hvcCIsImJpbGxpbmciXSwiYXpwIjoiYXBwIiwiZXhwIjoyMDAwMDAwMDAwLCJ"
     "uYmYiOjEwMDAwMDAwMDAsInNjb3BlIjoicmVhZCB3cml0ZSIsInJlYWxtIjp7InJvbGVzIjpbImFkbWluIiwidXNlciJ"
     "dLCJsZXZlbCI6N30sInZpcCI6dHJ1ZSwicmF0aW8iOjAuNSwibm9uZSI6bnVsbH0.rZ6xohxl82_JUKbH03DNrkw34tR"
     "G66KL2Iz6bE0A1s7Uznjf73inPV7jrhbv1zrFDLVzUCeGzuutvJKorkrlKOzu8mWjFDHw2gEwHChB7tQp-bauIi0rhwP"
     "TPhZZ5RDt9s2uLmb240cTYcVBXANE2n-ZmqqYYl2PnWKu8g-Denndu_zfvPNbBXA9an7iibkMiZoc47JH46vdLXijDCo"
     "IqqdByHKDiHVdWhZRSBMPkAn-agwThgOTDlENhKLFQiYqLjN0Q55ipvqfIUzwmwBpqM4Sn5bUhXmDnZPDftKn6Yovz5w"
     "BQ91eIUndefVy3RuPZs2wR5-SZ3o0KjByfYBpcA"},
    {"ES256",
     "eyJhbGciOiJFUzI1NiIsImtpZCI6ImVjMjU2IiwidHlwIjoiSldUIn0.eyJpc3MiOiJodHRwczovL2lkcC5leGFtcGxl"
     "Iiwic3ViIjoiYWxpY2UiLCJhdWQiOlsic2hvcCIsImJpbGxpbmciXSwiYXpwIjoiYXBwIiwiZXhwIjoyMDAwMDAwMDAw"
     "LCJuYmYiOjEwMDAwMDAwMDAsInNjb3BlIjoicmVhZCB3cml0ZSIsInJlYWxtIjp7InJvbGVzIjpbImFkbWluIiwidXNl"
     "ciJdLCJsZXZlbCI6N30sInZpcCI6dHJ1ZSwicmF0aW8iOjAuNSwibm9uZSI6bnVsbH0.HPdb1grm-3Yw5F_Agrur-poC"
     "1C2DTeJHsPp719XPjWKcqOle66MV0WcIiWhh2sYxNVR7misLbPIuTiy6eDrHeg"},
    {"ES384",
     "eyJhbGciOiJFUzM4NCIsImtpZCI6ImVjMzg0IiwidHlwIjoiSldUIn0.eyJpc3MiOiJodHRwczovL2lkcC5leGFtcGxl"
     "Iiwic3ViIjoiYWxpY2UiLCJhdWQiOlsic2hvcCIsImJpbGxpbmciXSwiYXpwIjoiYXBwIiwiZXhwIjoyMDAwMDAwMDAw"
     "LCJuYmYiOjEwMDAwMDAwMDAsInNjb3BlIjoicmVhZCB3cml0ZSIsInJlYWxtIjp7InJvbGVzIjpbImFkbWluIiwidXNl"
     "ciJdLCJsZXZlbCI6N30sInZpcCI6dHJ1ZSwicmF0aW8iOjAuNSwibm9uZSI6bnVsbH0.jZ-yYdeHPU_xLHpM883fQOL9"
     "ZStyA93kd7IZiwDvfVLxf-vcaSjmn8d3oGLUE3UawqpUUTPH6h8MdEhPSPKsUQX41CyrXnNWHVRed-R4Af1Jz6Kmob_L"
     "4BbyhHnJGWxg"},
    {"ES512",
     "eyJhbGciOiJFUzUxMiIsImtpZCI6ImVjNTEyIiwidHlwIjoiSldUIn0.eyJpc3MiOiJodHRwczovL2lkcC5leGFtcGxl"
     "Iiwic3ViIjoiYWxpY2UiLCJhdWQiOlsic2hvcCIsImJpbGxpbmciXSwiYXpwIjoiYXBwIiwiZXhwIjoyMDAwMDAwMDAw"
     "LCJuYmYiOjEwMDAwMDAwMDAsInNjb3BlIjoicmVhZCB3cml0ZSIsInJlYWxtIjp7InJvbGVzIjpbImFkbWluIiwidXNl"
     "ciJdLCJsZXZlbCI6N30sInZpcCI6dHJ1ZSwicmF0aW8iOjAuNSwibm9uZSI6bnVsbH0.AeTfXgDrqavOjqI3LpRqAf1k"
     "cvAGc9AMV-GEPfw3tTlwfuARtXPVH8l-08SIm84bx-0ypPJ6Zf9AKkzQC-IOqIk2AOVoTrKMjD5Cw8v42SkuNrTCHRc5"
     "Fe7JWD3QvBd_gOjfnJbBmm4jjfAYMnlFnEoBLOs0EhqmpDVIHItpy32fSL0P"},
    {"EdDSA",
     "eyJhbGciOiJFZERTQSIsImtpZCI6ImVkIiwidHlwIjoiSldUIn0.eyJpc3MiOiJodHRwczovL2lkcC5leGFtcGxlIiwi"
     "c3ViIjoiYWxpY2UiLCJhdWQiOlsic2hvcCIsImJpbGxpbmciXSwiYXpwIjoiYXBwIiwiZXhwIjoyMDAwMDAwMDAwLCJu"
     "YmYiOjEwMDAwMDAwMDAsInNjb3BlIjoicmVhZCB3cml0ZSIsInJlYWxtIjp7InJvbGVzIjpbImFkbWluIiwidXNlciJd"
     "LCJsZXZlbCI6N30sInZpcCI6dHJ1ZSwicmF0aW8iOjAuNSwibm9uZSI6bnVsbH0.1OrwSj4eQmcwysoEL2msE9Us2zJ5"
     "LtLU14JugoHHy2UNgZBvNFhQ_wGyPypTFrQ9Z9ZCgeVJRecNRe4WqiVhCg"},
};

// PS256 with a salt of 20 bytes.
inline const std::string kOtherSalt =
    "eyJhbGciOiAiUFMyNTYiLCAia2lkIjogInJzYSJ9.eyJpc3MiOiJodHRwczovL2lkcC5leGFtcGxlIiwic3ViIjoiYWx"
    "pY2UiLCJhdWQiOlsic2hvcCIsImJpbGxpbmciXSwiYXpwIjoiYXBwIiwiZXhwIjoyMDAwMDAwMDAwLCJuYmYiOjEwMDA"
    "wMDAwMDAsInNjb3BlIjoicmVhZCB3cml0ZSIsInJlYWxtIjp7InJvbGVzIjpbImFkbWluIiwidXNlciJdLCJsZXZlbCI"
    "6N30sInZpcCI6dHJ1ZSwicmF0aW8iOjAuNSwibm9uZSI6bnVsbH0.jw2FfNpqEd6uci-hJ2NUyKAXCroryLwpIDptszE"
    "qJpwRln4vdOkUeJvkiz_D5f12TA4x0SFUKq4jaX2unY6F4vw7IHM1UGdRNy0UdbQMvidijSBc9MkQPx3l8D7Xz1uZh6A"
    "1rdc8WFqi-poNnCznN-nbV06dH-Qi-9zIOu0u2250-zJInu1q1po8XSpsWg2nKI9FTl8aBpDuJKLMt8GgwDZQBRFBgiC"
    "9OBm-g3mMIaQQckP5CpzOHcxra9ZTbipWmfCvQLjnEJGYWzNin_wRdYS1iW53dCEH2lsOmJwOf8f-vAFd_mpDdILmcs1"
    "K9DrMdlE02XFPRNA2w7VuC-JQ0Q";

}  // namespace culvert::vectors
