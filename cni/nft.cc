// SPDX-License-Identifier: Apache-2.0
#include "cni/nft.h"

#include <fmt/format.h>
#include <nftables/libnftables.h>

#include <memory>

namespace culvert::cni {
namespace {

struct FreeContext {
  void operator()(nft_ctx* context) const { nft_ctx_free(context); }
};
using Context = std::unique_ptr<nft_ctx, FreeContext>;

// A context opens its netlink socket when it is made: it must be made in the right namespace.
base::Result<Context> make_context(unsigned flags) {
  Context context(nft_ctx_new(NFT_CTX_DEFAULT));
  if (!context)
    return base::fail(base::Code::kUnsupported, "libnftables cannot start: is nf_tables in this kernel?");
  if (nft_ctx_buffer_output(context.get()) != 0 || nft_ctx_buffer_error(context.get()) != 0) {
    return base::fail(base::Code::kExhausted, "libnftables: out of memory");
  }
  nft_ctx_output_set_flags(context.get(), flags);
  return context;
}

base::Code code_of(std::string_view message) {
  if (message.find("No such file or directory") != std::string_view::npos) return base::Code::kNotFound;
  if (message.find("Operation not permitted") != std::string_view::npos) return base::Code::kDenied;
  if (message.find("not supported") != std::string_view::npos) return base::Code::kUnsupported;
  return base::Code::kIo;
}

// libnftables explains with the command and a line of carets; the first line says it all.
std::string first_line(const char* text) {
  std::string_view all = text ? text : "";
  return std::string(all.substr(0, all.find('\n')));
}

base::Result<std::string> run(const std::string& script, unsigned flags) {
  auto context = make_context(flags);
  if (!context) return base::fail(context.error());
  if (nft_run_cmd_from_buffer(context->get(), script.c_str()) != 0) {
    std::string why = first_line(nft_ctx_get_error_buffer(context->get()));
    return base::fail(code_of(why),
                      fmt::format("nftables refused the rules: {}", why.empty() ? "no reason given" : why));
  }
  const char* output = nft_ctx_get_output_buffer(context->get());
  return std::string(output ? output : "");
}

}  // namespace

base::Result<std::string> nft_run(const std::string& script, bool json) {
  return run(script, NFT_CTX_OUTPUT_NUMERIC_ALL | (json ? NFT_CTX_OUTPUT_JSON : 0u));
}

base::Result<std::string> nft_list_tables(std::span<const std::string_view> tables, bool terse) {
  const unsigned flags =
      NFT_CTX_OUTPUT_NUMERIC_ALL | NFT_CTX_OUTPUT_STATELESS | (terse ? NFT_CTX_OUTPUT_TERSE : 0u);
  std::string all;
  for (std::string_view table : tables) {
    auto text = run(fmt::format("list table inet {}\n", table), flags);
    if (text) {
      all += *text;
    } else if (text.error().code() != base::Code::kNotFound) {
      return base::fail(std::move(text.error()).wrap(fmt::format("list table {}", table)));
    }
  }
  return all;
}

}  // namespace culvert::cni
