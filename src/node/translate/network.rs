//! A pod's host name, `/etc/hosts` and `/etc/resolv.conf`. Pure.
//! **Source**: `pkg/kubelet/kubelet_pods.go` `GeneratePodHostNameAndDomain`, `managedHostsFileContent`;
//! `pkg/kubelet/network/dns/dns.go` `GetPodDNS`, v1.37.

use super::ConfigError;
use k8s_openapi::api::core::v1::{HostAlias, Pod, PodDNSConfig, PodDNSConfigOption};
use std::{fmt::Write as _, net::Ipv4Addr};

/// The longest host name that Linux takes, less one.
const HOSTNAME_MAX: usize = 63;
/// Source: `MaxDNSNameservers`, `pkg/apis/core/validation`.
const NAMESERVERS_MAX: usize = 3;
/// What the sandbox replaces by its address once it has one.
pub const POD_IP: &str = "${POD_IP}";
/// Docker's own resolver, which answers in every container of a network that is not the default one.
const DOCKER_DNS: &str = "127.0.0.11";

/// The pod's host name.
///
/// # Errors
/// When the full name that `setHostnameAsFQDN` asks for is too long.
pub fn hostname(pod: &Pod, cluster_domain: &str) -> Result<String, ConfigError> {
    let (host, domain) = host_and_domain(pod, cluster_domain);
    let as_fqdn = pod.spec.as_ref().is_some_and(|s| s.set_hostname_as_fqdn == Some(true));
    if !as_fqdn || domain.is_empty() {
        return Ok(host);
    }
    let fqdn = format!("{host}.{domain}");
    if fqdn.len() > HOSTNAME_MAX + 1 {
        return Err(ConfigError::Other(format!(
            "failed to construct FQDN from pod hostname and cluster domain, FQDN {fqdn} is too long ({} characters is the max, \
             {} characters requested)",
            HOSTNAME_MAX + 1,
            fqdn.len()
        )));
    }
    Ok(fqdn)
}

fn host_and_domain(pod: &Pod, cluster_domain: &str) -> (String, String) {
    let spec = pod.spec.clone().unwrap_or_default();
    if let Some(name) = spec.hostname_override {
        return (name, String::new());
    }
    let name = pod.metadata.name.clone().unwrap_or_default();
    let mut host = spec.hostname.filter(|h| !h.is_empty()).unwrap_or(name);
    if host.len() > HOSTNAME_MAX {
        host.truncate(HOSTNAME_MAX);
        host.truncate(host.trim_end_matches(['-', '.']).len());
    }
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let domain = spec.subdomain.filter(|s| !s.is_empty());
    (host, domain.map(|sub| format!("{sub}.{namespace}.svc.{cluster_domain}")).unwrap_or_default())
}

/// The pod's `/etc/hosts`; `None` leaves what Docker writes: a pod on the host's network sees the host's names.
pub fn hosts_file(pod: &Pod, cluster_domain: &str) -> Option<String> {
    let spec = pod.spec.clone().unwrap_or_default();
    let aliases = spec.host_aliases.unwrap_or_default();
    if spec.host_network == Some(true) {
        // `${HOSTS}` stands for what Docker wrote.
        return (!aliases.is_empty())
            .then(|| format!("# Kubernetes-managed hosts file (host network).\n${{HOSTS}}{}", alias_lines(&aliases)));
    }
    let (host, domain) = host_and_domain(pod, cluster_domain);
    let mut text = String::from(
        "# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n\
         fe00::0\tip6-localnet\nfe00::0\tip6-mcastprefix\nfe00::1\tip6-allnodes\nfe00::2\tip6-allrouters\n",
    );
    let names = if domain.is_empty() { host } else { format!("{host}.{domain}\t{host}") };
    writeln!(text, "{POD_IP}\t{names}").expect("writing to a String cannot fail");
    text.push_str(&alias_lines(&aliases));
    Some(text)
}

fn alias_lines(aliases: &[HostAlias]) -> String {
    if aliases.is_empty() {
        return String::new();
    }
    let line =
        |alias: &HostAlias| format!("{}\t{}\n", alias.ip, alias.hostnames.clone().unwrap_or_default().join("\t"));
    let lines: String = aliases.iter().map(line).collect();
    format!("\n# Entries added by HostAliases.\n{lines}")
}

/// The pod's `/etc/resolv.conf`; `None` leaves what Docker writes.
pub fn resolv_conf(pod: &Pod, dns_ip: Ipv4Addr, cluster_domain: &str) -> Option<String> {
    let spec = pod.spec.clone().unwrap_or_default();
    let on_host = spec.host_network == Some(true);
    let policy = spec.dns_policy.as_deref().unwrap_or("ClusterFirst");
    let uses_cluster = policy == "ClusterFirstWithHostNet" || (policy == "ClusterFirst" && !on_host);
    let mut dns = match policy {
        _ if uses_cluster => cluster_dns(pod, dns_ip, cluster_domain),
        "None" => Dns::default(),
        // `Default`: the engine's.
        _ if spec.dns_config.is_none() || on_host => return None,
        _ => Dns { nameservers: vec![DOCKER_DNS.into()], ..Dns::default() },
    };
    spec.dns_config.iter().for_each(|config| dns.merge(config));
    Some(dns.text())
}

fn cluster_dns(pod: &Pod, dns_ip: Ipv4Addr, domain: &str) -> Dns {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    Dns {
        nameservers: vec![dns_ip.to_string()],
        searches: vec![format!("{namespace}.svc.{domain}"), format!("svc.{domain}"), domain.to_owned()],
        options: vec![("ndots".into(), Some("5".into()))],
    }
}

#[derive(Default)]
struct Dns {
    nameservers: Vec<String>,
    searches: Vec<String>,
    options: Vec<(String, Option<String>)>,
}

impl Dns {
    fn merge(&mut self, config: &PodDNSConfig) {
        let add = |to: &mut Vec<String>, more: &Option<Vec<String>>| {
            for item in more.iter().flatten() {
                if !to.contains(item) {
                    to.push(item.clone());
                }
            }
        };
        add(&mut self.nameservers, &config.nameservers);
        add(&mut self.searches, &config.searches);
        self.nameservers.truncate(NAMESERVERS_MAX);
        config.options.iter().flatten().for_each(|option| self.set_option(option));
    }

    fn set_option(&mut self, option: &PodDNSConfigOption) {
        let Some(name) = &option.name else { return };
        match self.options.iter_mut().find(|(n, _)| n == name) {
            Some((_, value)) => value.clone_from(&option.value),
            None => self.options.push((name.clone(), option.value.clone())),
        }
    }

    fn text(&self) -> String {
        let mut text = String::new();
        if !self.searches.is_empty() {
            text.push_str(&format!("search {}\n", self.searches.join(" ")));
        }
        self.nameservers.iter().for_each(|server| text.push_str(&format!("nameserver {server}\n")));
        if !self.options.is_empty() {
            let option = |(name, value): &(String, Option<String>)| match value {
                Some(value) => format!("{name}:{value}"),
                None => name.clone(),
            };
            text.push_str(&format!("options {}\n", self.options.iter().map(option).collect::<Vec<_>>().join(" ")));
        }
        text
    }
}
