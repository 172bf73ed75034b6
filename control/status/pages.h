// SPDX-License-Identifier: Apache-2.0
// The control plane's own endpoints (spec control-plane section 5.5): /ready, /metrics, /version and /debug
// views of what was derived and what each proxy has acknowledged. Control loop.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "control/deploy/controller.h"
#include "control/serve/ads_server.h"
#include "control/serve/ca_service.h"
#include "control/serve/jwks_fetcher.h"
#include "mesh/kube/resource_source.h"
#include "net/conn/http_server.h"

namespace culvert::control {

class Pages {
 public:
  Pages(const AdsServer& ads, const CaService& ca, const kube::ResourceSource& source, std::string version)
      : ads_(ads), ca_(ca), source_(source), version_(std::move(version)) {}
  // The waypoints that run here; they live as long as this is asked.
  void show(const WaypointController& waypoints) { waypoints_ = &waypoints; }
  void show(const JwksFetcher& jwks) { jwks_ = &jwks; }
  async::Task<conn::HttpResponse> serve(conn::HttpRequest request);

 private:
  conn::HttpResponse metrics() const;
  std::string ambient() const;
  std::string syncz() const;
  std::string problems() const;
  std::string status() const;

  const AdsServer& ads_;
  const CaService& ca_;
  const kube::ResourceSource& source_;
  std::string version_;
  const WaypointController* waypoints_ = nullptr;
  const JwksFetcher* jwks_ = nullptr;
};

}  // namespace culvert::control
