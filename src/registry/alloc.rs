//! Allocation of ClusterIPs and node ports.
