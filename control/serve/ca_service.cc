// SPDX-License-Identifier: Apache-2.0
#include "control/serve/ca_service.h"

#include <fmt/format.h>

#include <algorithm>

#include "mesh/model/identity.h"
#include "net/async/wait.h"
#include "proto/ca.pb.h"

namespace culvert::control {

using base::Code;
using base::fail;
using base::Field;
using base::Result;
using conn::GrpcCode;
using conn::GrpcStatus;

namespace {

constexpr std::string_view kMethod = "/istio.v1.auth.IstioCertificateService/CreateCertificate";

// Names go into a certificate: nothing but what Kubernetes allows in them.
bool is_plain(std::string_view text) {
  return !text.empty() && text.size() <= 253 && std::all_of(text.begin(), text.end(), [](unsigned char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' || c == '-';
  });
}

std::string spiffe(const std::string& trust_domain, const std::string& ns,
                   const std::string& service_account) {
  return fmt::format("spiffe://{}/ns/{}/sa/{}", trust_domain, ns, service_account);
}

}  // namespace

std::optional<CallerIdentity> Authenticator::authenticate(const conn::GrpcCall& call) const {
  std::string peer = call.peer_addr().to_string();
  constexpr std::string_view kBearer = "Bearer ";
  if (const std::string* header = call.metadata("authorization"); header && header->starts_with(kBearer)) {
    Result<TokenClaims> claims = key_.verify(header->substr(kBearer.size()), audience_, loop_.wall_now());
    if (claims && is_plain(claims->caller.ns) && is_plain(claims->caller.service_account))
      return claims->caller;
    log_.warn("auth", "caller refused",
              {Field::bare("peer", peer), Field::text("reason", claims ? "the token names no usable account"
                                                                       : claims.error().message())});
    return std::nullopt;
  }
  for (const std::string& uri : call.tls_peer().uri_sans()) {
    Result<model::Identity> identity = model::Identity::parse(uri);
    if (identity && identity->trust_domain == trust_domain_) {
      return CallerIdentity{identity->ns.str(), identity->service_account.str(), "", ""};
    }
  }
  log_.warn("auth", "caller refused",
            {Field::bare("peer", peer),
             Field::text("reason", "neither a bearer token nor a client certificate of ours")});
  return std::nullopt;
}

CaService::CaService(async::Loop& loop, base::Log& log, const CertAuthority& authority,
                     const Authenticator& authenticator, PodOnNode pod_on_node, CaServiceOptions options)
    : loop_(loop),
      log_(log),
      authority_(authority),
      authenticator_(authenticator),
      pod_on_node_(std::move(pod_on_node)),
      options_(std::move(options)) {}

void CaService::register_on(conn::GrpcServer& server) {
  server.handle(std::string(kMethod), [this](conn::GrpcCall& call) { return create_certificate(call); });
}

async::Task<Result<std::string>> CaService::allowed_uri(CallerIdentity caller, std::string impersonated) {
  if (impersonated.empty()) co_return spiffe(options_.trust_domain, caller.ns, caller.service_account);
  auto refuse = [](std::string why) { return fail(Code::kDenied, std::move(why)); };
  if (!options_.trusted_node_accounts.contains(caller.ns + "/" + caller.service_account)) {
    co_return refuse("not-trusted: the caller is no trusted node account");
  }
  if (caller.node.empty()) co_return refuse("no-node: the caller's token is not bound to a node");
  Result<model::Identity> wanted = model::Identity::parse(impersonated);
  if (!wanted || !is_plain(wanted->ns.view()) || !is_plain(wanted->service_account.view())) {
    co_return refuse("bad-identity: not a SPIFFE identity of a service account");
  }
  if (wanted->trust_domain != options_.trust_domain) {
    co_return refuse("trust-domain: the identity is not of " + options_.trust_domain);
  }
  std::string ns = wanted->ns.str();
  std::string account = wanted->service_account.str();
  // Its own identity needs no pod to be listed.
  bool own = ns == caller.ns && account == caller.service_account;
  async::Deadline patience = async::Deadline::in(loop_, options_.pod_patience);
  while (!own && !pod_on_node_(ns, account, caller.node)) {
    if (patience.passed(loop_.now())) {
      co_return refuse(
          fmt::format("no-such-workload-on-node: no pod of {}/{} is on node {}", ns, account, caller.node));
    }
    co_await async::sleep_for(loop_, std::chrono::milliseconds(50));
  }
  co_return spiffe(options_.trust_domain, ns, account);
}

async::Task<GrpcStatus> CaService::create_certificate(conn::GrpcCall& call) {
  counters_.requests++;
  std::optional<CallerIdentity> caller = authenticator_.authenticate(call);
  if (!caller) {
    counters_.unauthenticated++;
    co_return GrpcStatus{GrpcCode::kUnauthenticated, "request authenticate failure"};
  }
  Result<std::optional<std::string>> message = co_await call.receive();
  istio::v1::auth::IstioCertificateRequest request;
  if (!message || !message->has_value() || !request.ParseFromString(**message)) {
    counters_.csr_invalid++;
    co_return GrpcStatus{GrpcCode::kInvalidArgument, "the request cannot be read"};
  }
  std::string impersonated;
  if (auto found = request.metadata().fields().find("ImpersonatedIdentity");
      found != request.metadata().fields().end()) {
    impersonated = found->second.string_value();
  }
  Result<std::string> uri = co_await allowed_uri(*caller, impersonated);
  if (!uri) {
    counters_.impersonation_refused++;
    log_.warn("ca", "impersonation refused",
              {Field::text("caller", caller->to_string()), Field::text("identity", impersonated),
               Field::text("reason", uri.error().message())});
    bool trusted = options_.trusted_node_accounts.contains(caller->ns + "/" + caller->service_account);
    co_return GrpcStatus{GrpcCode::kUnauthenticated,
                         trusted ? uri.error().message() : "request impersonation authentication failure"};
  }
  LeafRequest leaf{request.csr(),
                   {*uri},
                   std::chrono::seconds(std::clamp<int64_t>(request.validity_duration(), 0, 1'000'000'000))};
  Result<std::vector<std::string>> chain = authority_.issue(leaf, loop_.wall_now());
  if (!chain) {
    bool callers_fault = chain.error().code() == Code::kInvalid;
    callers_fault ? counters_.csr_invalid++ : counters_.sign_errors++;
    log_.warn("ca", "no certificate issued",
              {Field::text("caller", caller->to_string()), Field::text("reason", chain.error().message())});
    co_return GrpcStatus{callers_fault ? GrpcCode::kInvalidArgument : GrpcCode::kInternal,
                         chain.error().message()};
  }
  counters_.issued++;
  istio::v1::auth::IstioCertificateResponse response;
  for (std::string& pem : *chain) response.add_cert_chain(std::move(pem));
  log_.info("ca", "certificate issued",
            {Field::text("identity", *uri), Field::text("caller", caller->to_string())});
  Result<> sent = co_await call.send(response.SerializeAsString());
  co_return sent ? GrpcStatus{} : GrpcStatus{GrpcCode::kUnavailable, "the caller went away"};
}

}  // namespace culvert::control
