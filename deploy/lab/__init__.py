# SPDX-License-Identifier: Apache-2.0
"""The lab: two nodes, a control host and pods as network namespaces of this machine."""
