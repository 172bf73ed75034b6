// SPDX-License-Identifier: Apache-2.0
// config_dump: the JSON of GET /config_dump, with the keys upstream's tools read (spec ztunnel
// section 10). Pure: everything it shows is handed in.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "mesh/config/ztunnel_config.h"
#include "mesh/model/view.h"
#include "mesh/observe/conn_record.h"
#include "ztunnel/pod.h"

namespace culvert::ztunnel {

struct CertificateRow {
  struct Item {
    std::string pem;
    std::string serial;      // decimal
    std::string valid_from;  // RFC 3339
    std::string expires;
  };
  std::string identity;
  std::string state;  // Initializing, Available, "Unavailable: <error>"
  std::vector<Item> chain;
  std::vector<Item> roots;
};

struct PodRow {
  PodInfo info;
  bool up = false;
};

struct DumpInput {
  const config::ZtunnelConfig& config;
  const model::MeshView& view;
  std::vector<CertificateRow> certificates;
  std::vector<PodRow> pods;                          // shared mode
  std::vector<observe::ConnTable::Row> connections;  // of every data loop
};

std::string config_dump(const DumpInput& input);

}  // namespace culvert::ztunnel
