// SPDX-License-Identifier: Apache-2.0
#include "control/cli/render.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>

#include "net/base/ip.h"

namespace culvert::control {

using base::Code;
using base::fail;
using base::Result;
using nlohmann::json;

namespace {

using Row = std::vector<std::string>;
struct View {
  Row columns;
  std::vector<Row> rows;
  json items = json::array();  // the JSON twin of the rows
};

std::string text(const json& from, const char* key) {
  if (!from.is_object()) return "";
  auto found = from.find(key);
  return found != from.end() && found->is_string() ? found->get<std::string>() : std::string();
}

const json& member(const json& from, const char* key) {
  static const json nothing;
  if (!from.is_object()) return nothing;
  auto found = from.find(key);
  return found == from.end() ? nothing : *found;
}

std::string or_dash(std::string cell) { return cell.empty() ? "-" : std::move(cell); }

std::string first_text(const json& list) {
  return list.is_array() && !list.empty() && list.front().is_string() ? list.front().get<std::string>() : "";
}

// "network/ip" without the network.
std::string without_network(const std::string& vip) { return vip.substr(vip.find('/') + 1); }

// Who is behind an address, for people: "name.namespace".
class Names {
 public:
  explicit Names(const json& dump) {
    for (const json& workload : member(dump, "workloads")) {
      const json& ips = member(workload, "workloadIps");
      if (text(workload, "networkMode") == "HostNetwork" || !ips.is_array()) continue;
      for (const json& ip : ips) {
        if (ip.is_string()) by_ip_[ip] = text(workload, "name") + "." + text(workload, "namespace");
      }
    }
    for (const json& service : member(dump, "services")) {
      const json& vips = member(service, "vips");
      if (!vips.is_array()) continue;
      for (const json& vip : vips) {
        if (vip.is_string())
          by_ip_[without_network(vip)] = text(service, "name") + "." + text(service, "namespace");
      }
    }
  }
  std::string of_ip(const std::string& ip) const {
    auto found = by_ip_.find(ip);
    return found == by_ip_.end() ? ip : found->second;
  }
  std::string of_socket(const std::string& address) const {
    Result<base::SocketAddr> socket = base::SocketAddr::parse(address);
    if (!socket) return address;
    auto found = by_ip_.find(socket->ip.to_string());
    return found == by_ip_.end() ? address : fmt::format("{}:{}", found->second, socket->port);
  }

 private:
  std::map<std::string, std::string> by_ip_;
};

std::string waypoint(const json& of, const Names& names) {
  std::string destination = text(member(of, "waypoint"), "destination");
  if (destination.empty()) return "None";
  std::string rest = without_network(destination);
  if (base::IpAddr::parse(rest)) {
    std::string name = names.of_ip(rest);
    return name == rest ? rest : name.substr(0, name.find('.'));
  }
  return rest.substr(0, rest.find('.'));
}

bool outside(const json& item, const RenderOptions& options) {
  return !options.ns.empty() && text(item, "namespace") != options.ns;
}

View workloads(const json& dump, const RenderOptions& options) {
  View view{{"NAMESPACE", "POD NAME", "ADDRESS", "NODE", "WAYPOINT", "PROTOCOL"}, {}};
  Names names(dump);
  for (const json& w : member(dump, "workloads")) {
    if (outside(w, options) || (!options.node.empty() && text(w, "node") != options.node)) continue;
    std::string address = first_text(member(w, "workloadIps"));
    if (address.empty()) address = text(w, "hostname");
    view.rows.push_back({text(w, "namespace"), text(w, "name"), or_dash(address), or_dash(text(w, "node")),
                         waypoint(w, names), or_dash(text(w, "protocol"))});
    view.items.push_back(w);
  }
  return view;
}

View services(const json& dump, const RenderOptions& options) {
  View view{{"NAMESPACE", "SERVICE NAME", "SERVICE VIP", "WAYPOINT", "ENDPOINTS"}, {}};
  Names names(dump);
  // A service's own list leaves out unhealthy endpoints, so the members are counted where they say it.
  std::map<std::string, std::pair<size_t, size_t>> endpoints;  // healthy, all
  for (const json& w : member(dump, "workloads")) {
    const json& of = member(w, "services");
    if (!of.is_object()) continue;
    for (const auto& [key, ports] : of.items()) {
      endpoints[key].second++;
      if (text(w, "status") != "Unhealthy") endpoints[key].first++;
    }
  }
  for (const json& s : member(dump, "services")) {
    if (outside(s, options)) continue;
    std::string vips;
    if (const json& list = member(s, "vips"); list.is_array()) {
      for (const json& vip : list) {
        if (vip.is_string()) vips += (vips.empty() ? "" : ",") + without_network(vip);
      }
    }
    auto [healthy, all] = endpoints[text(s, "namespace") + "/" + text(s, "hostname")];
    view.rows.push_back({text(s, "namespace"), text(s, "name"), or_dash(vips), waypoint(s, names),
                         fmt::format("{}/{}", healthy, all)});
    view.items.push_back(s);
  }
  return view;
}

View policies(const json& dump, const RenderOptions& options) {
  View view{{"NAMESPACE", "POLICY NAME", "ACTION", "SCOPE"}, {}};
  for (const json& p : member(dump, "policies")) {
    if (outside(p, options)) continue;
    view.rows.push_back(
        {or_dash(text(p, "namespace")), text(p, "name"), text(p, "action"), text(p, "scope")});
    view.items.push_back(p);
  }
  return view;
}

View certificates(const json& dump, const RenderOptions& options) {
  View view{{"CERTIFICATE NAME", "TYPE", "STATUS", "VALID CERT", "SERIAL NUMBER", "NOT AFTER", "NOT BEFORE"},
            {}};
  std::string now = base::format_rfc3339(options.now, 0);  // such times sort as text
  for (const json& entry : member(dump, "certificates")) {
    std::string identity = text(entry, "identity");
    if (!options.ns.empty() && identity.find("/ns/" + options.ns + "/") == std::string::npos) continue;
    std::string state = text(entry, "state");
    view.items.push_back(entry);
    auto add = [&](const json& cert, const char* type) {
      std::string from = text(cert, "validFrom");
      std::string until = text(cert, "expirationTime");
      bool valid = !from.empty() && from <= now && now < until;
      view.rows.push_back({identity, type, or_dash(state), valid ? "true" : "false",
                           or_dash(text(cert, "serialNumber")), or_dash(until), or_dash(from)});
    };
    const json& chain = member(entry, "certChain");
    if (!chain.is_array() || chain.empty()) add({}, "Leaf");
    for (size_t i = 0; chain.is_array() && i < chain.size(); ++i)
      add(chain[i], i == 0 ? "Leaf" : "Intermediate");
    for (const json& root : member(entry, "rootCerts")) add(root, "Root");
  }
  return view;
}

View connections(const json& dump, const RenderOptions& options) {
  View view{{"WORKLOAD", "DIRECTION", "LOCAL", "REMOTE", "REMOTE TARGET", "PROTOCOL"}, {}};
  Names names(dump);
  auto shown = [&](const std::string& address) {
    return or_dash(options.raw ? address : names.of_socket(address));
  };
  const json& states = member(dump, "workloadState");
  if (!states.is_object()) return view;
  for (const auto& [uid, state] : states.items()) {
    const json& info = member(state, "info");
    if (outside(info, options)) continue;
    std::string owner = text(info, "name") + "." + text(info, "namespace");
    for (const char* direction : {"inbound", "outbound"}) {
      if (!options.direction.empty() && options.direction != direction) continue;
      bool inbound = std::string_view(direction) == "inbound";
      for (const json& c : member(member(state, "connections"), direction)) {
        if (!c.is_object()) continue;
        std::string from = text(c, "src");
        std::string to = text(c, "actualDst");
        view.rows.push_back({owner, inbound ? "Inbound" : "Outbound", shown(inbound ? to : from),
                             shown(inbound ? from : to), shown(text(c, "originalDst")), text(c, "protocol")});
        json item = c;
        item["workload"] = owner;
        item["direction"] = direction;
        view.items.push_back(std::move(item));
      }
    }
  }
  return view;
}

View proxies(const json& syncz, const RenderOptions& options) {
  View view{{"NAME", "NODE", "ADDRESS", "CONNECTED", "ADDRESSES", "POLICIES", "REJECTS"}, {}};
  for (const json& p : member(syncz, "proxies")) {
    // "ztunnel~10.0.0.1~pod.ns~ns.svc.cluster.local" to "pod.ns".
    std::string id = text(p, "node");
    size_t second = id.find('~', id.find('~') + 1);
    std::string name = second == id.npos ? id : id.substr(second + 1, id.find('~', second + 1) - second - 1);
    if (!options.ns.empty() && !name.ends_with("." + options.ns)) continue;
    std::string caller = text(p, "caller");
    size_t at = caller.find(" on node ");
    std::string node = at == caller.npos ? "" : caller.substr(at + 9);
    if (!options.node.empty() && node != options.node) continue;
    std::string addresses = "NOT SENT", authorizations = "NOT SENT";
    uint64_t rejects = 0;
    for (const json& type : member(p, "types")) {
      (text(type, "type").ends_with(".Address") ? addresses : authorizations) = or_dash(text(type, "status"));
      if (const json& count = member(type, "rejects"); count.is_number_unsigned())
        rejects += count.get<uint64_t>();
    }
    view.rows.push_back({or_dash(name), or_dash(node), or_dash(text(p, "address")),
                         or_dash(text(p, "connectedAt")), addresses, authorizations,
                         fmt::to_string(rejects)});
    view.items.push_back(p);
  }
  return view;
}

// Conditions of objects, of the parents of routes, and of listeners.
View statuses(const json& page, const RenderOptions& options) {
  View view{{"OBJECT", "OF", "CONDITION", "STATUS", "REASON", "MESSAGE"}, {}};
  for (const json& object : member(page, "objects")) {
    std::string name = text(object, "object");
    size_t blank = name.find(' ');
    bool elsewhere = blank == name.npos || !name.substr(blank + 1).starts_with(options.ns + "/");
    if (!options.ns.empty() && elsewhere) continue;
    auto add = [&](const json& conditions, const std::string& part) {
      if (!conditions.is_array()) return;
      for (const json& one : conditions) {
        view.rows.push_back({or_dash(name), or_dash(part), or_dash(text(one, "type")),
                             or_dash(text(one, "status")), or_dash(text(one, "reason")),
                             or_dash(text(one, "message"))});
      }
    };
    add(member(object, "conditions"), "");
    for (const char* parts : {"parents", "listeners"}) {
      const json& list = member(object, parts);
      if (!list.is_array()) continue;
      for (const json& part : list) add(member(part, "conditions"), text(part, "name"));
    }
    view.items.push_back(object);
  }
  return view;
}

// Block style; every text is quoted as in JSON, which YAML reads the same way.
void write_yaml(const json& value, size_t indent, std::string& out) {
  std::string pad(indent, ' ');
  auto child = [&](const json& one) {
    if (one.is_structured() && !one.empty()) {
      out += '\n';
      write_yaml(one, indent + 2, out);
    } else {
      out += ' ' + one.dump(-1, ' ', true, json::error_handler_t::replace) + '\n';
    }
  };
  if (value.is_object()) {
    for (const auto& [key, one] : value.items()) {
      out += pad + json(key).dump(-1, ' ', true, json::error_handler_t::replace) + ':';
      child(one);
    }
  } else if (value.is_array()) {
    for (const json& one : value) {
      out += pad + '-';
      child(one);
    }
  }
}

View view_of(GetKind kind, const json& input, const RenderOptions& options) {
  switch (kind) {
    case GetKind::kWorkloads: return workloads(input, options);
    case GetKind::kServices: return services(input, options);
    case GetKind::kPolicies: return policies(input, options);
    case GetKind::kCertificates: return certificates(input, options);
    case GetKind::kConnections: return connections(input, options);
    case GetKind::kProxies: return proxies(input, options);
    case GetKind::kStatus: return statuses(input, options);
  }
  return {};
}

}  // namespace

std::string printable(const std::string& cell) {
  std::string out;
  for (unsigned char c : cell) {
    if (c < 0x20 || c == 0x7f) {
      out += fmt::format("\\x{:02x}", c);
    } else {
      out += static_cast<char>(c);
    }
  }
  return out;
}

std::optional<GetKind> parse_get_kind(std::string_view text) {
  static const std::map<std::string_view, GetKind> kinds = {
      {"workload", GetKind::kWorkloads},     {"w", GetKind::kWorkloads},
      {"service", GetKind::kServices},       {"svc", GetKind::kServices},
      {"policy", GetKind::kPolicies},        {"policies", GetKind::kPolicies},
      {"cert", GetKind::kCertificates},      {"certificate", GetKind::kCertificates},
      {"connection", GetKind::kConnections}, {"proxy", GetKind::kProxies},
      {"proxies", GetKind::kProxies},        {"status", GetKind::kStatus},
      {"conditions", GetKind::kStatus}};
  auto found = kinds.find(text);
  if (found == kinds.end() && text.ends_with('s')) found = kinds.find(text.substr(0, text.size() - 1));
  return found == kinds.end() ? std::nullopt : std::optional(found->second);
}

std::optional<OutputFormat> parse_output_format(std::string_view text) {
  if (text == "table") return OutputFormat::kTable;
  if (text == "json") return OutputFormat::kJson;
  if (text == "yaml") return OutputFormat::kYaml;
  return std::nullopt;
}

std::string render_table(const std::vector<std::string>& columns,
                         const std::vector<std::vector<std::string>>& rows) {
  std::vector<Row> lines = {columns};
  lines.insert(lines.end(), rows.begin(), rows.end());
  std::vector<size_t> widths(columns.size(), 0);
  for (Row& line : lines) {
    for (size_t i = 0; i < line.size(); ++i) {
      line[i] = printable(line[i]);
      widths[i] = std::max(widths[i], line[i].size());
    }
  }
  std::string out;
  for (const Row& line : lines) {
    for (size_t i = 0; i < line.size(); ++i) {
      out += line[i];
      if (i + 1 < line.size()) out.append(widths[i] - line[i].size() + 3, ' ');
    }
    out += '\n';
  }
  return out;
}

Result<std::string> render(GetKind kind, std::string_view text, const RenderOptions& options) {
  json input = json::parse(text, nullptr, false);
  if (!input.is_object())
    return fail(Code::kInvalid, "the answer is not a JSON object; is this the right port?");
  const char* expected = kind == GetKind::kProxies  ? "proxies"
                         : kind == GetKind::kStatus ? "objects"
                                                    : "workloads";
  if (!input.contains(expected)) {
    return fail(Code::kInvalid, fmt::format("the answer has no \"{}\"; is this the right port?", expected));
  }
  View view = view_of(kind, input, options);
  switch (options.format) {
    case OutputFormat::kTable:
      // Leaf, intermediates and roots stay in their order.
      if (kind != GetKind::kCertificates) std::sort(view.rows.begin(), view.rows.end());
      return render_table(view.columns, view.rows);
    case OutputFormat::kJson: return view.items.dump(2, ' ', false, json::error_handler_t::replace) + "\n";
    case OutputFormat::kYaml: break;
  }
  std::string out;
  write_yaml(view.items, 0, out);
  return view.items.empty() ? "[]\n" : std::move(out);
}

}  // namespace culvert::control
