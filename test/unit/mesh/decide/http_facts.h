// SPDX-License-Identifier: Apache-2.0
// A request for table tests: owns what HttpRequestFacts looks into.
#pragma once

#include <map>
#include <string>
#include <utility>
#include <vector>

#include "mesh/decide/http_request.h"

namespace culvert::decide {

class FixedClaims : public TokenClaims {
 public:
  std::map<std::string, std::vector<std::string>> values;  // by the path joined with dots
  std::vector<std::string> at(std::span<const std::string> path) const override {
    std::string joined;
    for (const std::string& part : path) joined += (joined.empty() ? "" : ".") + part;
    auto found = values.find(joined);
    return found == values.end() ? std::vector<std::string>() : found->second;
  }
};

struct Request {
  std::string method = "GET", scheme = "http", authority = "shop.local", path = "/", query, sni;
  std::vector<std::pair<std::string, std::string>> headers;
  model::Identity peer = *model::Identity::parse("spiffe://cluster.local/ns/web/sa/front");
  bool mtls = true;
  model::LabelMap labels;
  FixedClaims claims;
  bool token = false;
  std::string principal;
  std::vector<std::string> audiences;
  std::string presenter;
  std::string source = "10.0.0.1", remote = "10.0.0.1", destination = "10.1.0.1:80";
  uint16_t port = 80;

  Request& with(std::string name, std::string value) {
    headers.emplace_back(std::move(name), std::move(value));
    return *this;
  }
  HttpRequestFacts facts() const {
    HttpRequestFacts out;
    out.method = method;
    out.scheme = scheme;
    out.authority = authority;
    out.path = path;
    out.query = query;
    out.sni = sni;
    out.headers = headers;
    out.grpc = is_grpc(headers);
    out.peer = mtls ? &peer : nullptr;
    out.source_labels = &labels;
    out.source_ip = *base::IpAddr::parse(source);
    out.remote_ip = *base::IpAddr::parse(remote);
    out.destination = *base::SocketAddr::parse(destination);
    out.port = port;
    if (token) {
      out.claims = &claims;
      out.token_principal = principal;
      out.token_audiences = audiences;
      out.token_presenter = presenter;
    }
    return out;
  }
};

}  // namespace culvert::decide
