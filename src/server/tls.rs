//! Who skiff is and who its clients are: a private CA, the server's certificate, client certificates, and rustls's settings.
//!
//! Called by `app` at start (and by commands that need another client certificate). May use the file system, in one directory.
//!
//! **Invariants**
//! - A private key is readable by its owner only, from the moment its file exists.
//! - The key of a pair is written before its certificate, each by rename: a certificate on disk always has its key.
//! - A CA that clients may already trust is never replaced silently: if its files do not fit each other, that is an error.
//!
//! **Not here**: what a user may do (`auth`), kubeconfig files (`cli`).

mod subject;

use crate::base::{clock::Clock, ordered::Set};
use jiff::{Timestamp, civil::Date, tz::TimeZone};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType, DnValue,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PublicKeyData as _,
};
use rustls::{
    RootCertStore, ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    server::WebPkiClientVerifier,
};
use std::{
    fs,
    io::Write as _,
    net::IpAddr,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};
use x509_parser::{extensions::GeneralName, prelude::X509Certificate, x509::X509Name};

/// What the name of every CA begins with.
const CA_NAME: &str = "skiff-ca-";
/// How long the CA is valid, as kubeadm has it.
const CA_YEARS: i16 = 10;
/// How long a certificate is valid, as kubeadm has it.
const LEAF_YEARS: i16 = 1;
/// How long before its making a certificate that was asked for begins to be valid.
const BACKDATE_SECS: i64 = 5 * 60;
/// A certificate with less than this left is issued anew, as k3s does.
const RENEW_BEFORE_SECS: i64 = 90 * 24 * 3600;
/// The names by which pods and this machine know the server.
const STANDARD_SANS: &[&str] = &[
    "localhost",
    "127.0.0.1",
    "::1",
    "kubernetes",
    "kubernetes.default",
    "kubernetes.default.svc",
    "kubernetes.default.svc.cluster.local",
];

/// Why a request for a node's certificate is refused. Source: `organizationNotSystemNodesErr` in pkg/apis/certificates/helpers.go.
const NOT_OF_NODES: &str = "subject organization is not system:nodes";

/// Why the certificates cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    /// A file or directory cannot be read or written.
    #[error("cannot {doing} {path}")]
    Io {
        /// What was tried.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The CA's files cannot be used, and clients may trust what they were.
    #[error("{path} is damaged or does not fit its key; restore it, or remove the directory to begin with a new CA")]
    DamagedCa {
        /// The certificate's file.
        path: PathBuf,
    },
    /// The key of service account tokens cannot be used, and tokens were signed with what it was.
    #[error("{path} is damaged; restore it, or remove it so that tokens are issued anew")]
    DamagedKey {
        /// The key's file.
        path: PathBuf,
    },
    /// A name cannot stand in a certificate.
    #[error("{0:?} is not a name or address for a certificate")]
    BadName(String),
    /// A certificate cannot be made.
    #[error("cannot make a certificate")]
    Issue(#[from] rcgen::Error),
    /// The TLS library refuses the certificates.
    #[error("cannot set up TLS")]
    Tls(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// A certificate and its key, as PEM text.
#[derive(Clone, PartialEq, Eq)]
pub struct Credential {
    /// The certificate.
    pub cert_pem: String,
    /// The private key.
    pub key_pem: String,
}

impl std::fmt::Debug for Credential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credential").field("cert_pem", &self.cert_pem).finish_non_exhaustive()
    }
}

/// The CA and what it has issued.
#[derive(Debug)]
pub struct Pki {
    dir: PathBuf,
    ca_pem: String,
    issuer: Issuer<'static, KeyPair>,
    clock: Clock,
    server: Credential,
    admin: Credential,
    proxy: Credential,
    token_key: KeyPair,
}

/// Loads the certificates of a directory, and makes those that are missing, about to expire, or lack a name of `sans`.
///
/// `sans` are names and addresses of the server beside the standard ones: the first Service address, the node's address, the user's.
pub fn load_or_create(dir: &Path, sans: &[String], clock: &Clock) -> Result<Pki, PkiError> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(|e| io("create", dir, e))?;
    fs::set_permissions(dir, fs::Permissions::from_mode(0o700)).map_err(|e| io("set the permissions of", dir, e))?;
    let now = clock.now();
    let (ca_pem, issuer) = load_or_create_ca(dir, now)?;
    let authority = Authority { dir, issuer: &issuer, now };
    let server = authority.credential("apiserver", &server_identity(sans))?;
    let admin = authority.credential("admin", &client_identity("kubernetes-admin", &["system:masters".to_owned()]))?;
    let proxy = authority.credential("proxy", &client_identity("system:kube-proxy", &[]))?;
    let token_key = load_or_create_token_key(dir)?;
    Ok(Pki { dir: dir.to_owned(), ca_pem, issuer, clock: clock.clone(), server, admin, proxy, token_key })
}

impl Pki {
    /// The CA's certificate, for clients to trust.
    pub fn ca_pem(&self) -> &str {
        &self.ca_pem
    }

    /// The administrator's credential: user `kubernetes-admin` of the group `system:masters`.
    pub fn admin(&self) -> &Credential {
        &self.admin
    }

    /// The data plane's credential: user `system:kube-proxy`.
    pub fn proxy(&self) -> &Credential {
        &self.proxy
    }

    /// The key that signs the tokens of service accounts, as PKCS #8.
    pub fn token_key(&self) -> Vec<u8> {
        self.token_key.serialize_der()
    }

    /// Loads or issues the credential of a client, kept in the files `<file>.crt` and `<file>.key`.
    pub fn client(&self, file: &str, user: &str, group: Option<&str>) -> Result<Credential, PkiError> {
        let groups: Vec<String> = group.into_iter().map(str::to_owned).collect();
        self.authority().credential(file, &client_identity(user, &groups))
    }

    /// Issues a certificate for servers of a host, or of a wildcard; it is kept nowhere.
    ///
    /// # Errors
    /// The host cannot stand in a certificate, or it cannot be made.
    pub fn issue_for_host(&self, host: &str) -> Result<Credential, PkiError> {
        self.authority().issue(&host_identity(host))
    }

    /// Whether a certificate is one that this CA made for a host, and lasts for long enough.
    pub fn is_good_for_host(&self, found: &Credential, host: &str) -> bool {
        self.authority().still_good(found, &host_identity(host))
    }

    fn authority(&self) -> Authority<'_> {
        Authority { dir: &self.dir, issuer: &self.issuer, now: self.clock.now() }
    }

    /// Signs a request for a certificate (PEM), for so many seconds.
    ///
    /// # Errors
    /// The request is none that this CA signs; the text says why.
    pub fn sign_request(&self, request: &str, secs: i64, of: RequestedUse) -> Result<String, String> {
        let whole = subject_of_request(request).filter(|(_, groups)| groups.len() > 1);
        if of.is_of_node && whole.is_some() {
            return Err(NOT_OF_NODES.to_owned());
        }
        let mut request = CertificateSigningRequestParams::from_pem(request).map_err(|err| err.to_string())?;
        of.check(&request.params)?;
        let now = self.clock.now().as_second();
        let at = |second: i64| SystemTime::UNIX_EPOCH + Duration::from_secs(second.max(0).unsigned_abs());
        let params = &mut request.params;
        // For clocks that are behind. Source: `Backdate` in signer.go.
        params.not_before = at(now.saturating_sub(BACKDATE_SECS)).into();
        params.not_after = at(now.saturating_add(secs)).into();
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
        let usage =
            if of.is_serving { ExtendedKeyUsagePurpose::ServerAuth } else { ExtendedKeyUsagePurpose::ClientAuth };
        params.extended_key_usages = vec![usage];
        params.use_authority_key_identifier_extension = true;
        let cert = request.signed_by(&self.issuer).map_err(|err| err.to_string())?;
        let Some((subject, _)) = whole else { return Ok(cert.pem()) };
        subject::replaced(cert.der(), &subject, self.issuer.key())
            .ok_or_else(|| "its subject cannot be signed".to_owned())
    }

    /// Settings for a TLS listener: HTTP/2 and HTTP/1.1; a client certificate is not required, but checked when given.
    pub fn server_config(&self) -> Result<Arc<ServerConfig>, PkiError> {
        fn tls<E: Into<Box<dyn std::error::Error + Send + Sync>>>(err: E) -> PkiError {
            PkiError::Tls(err.into())
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.ca_pem.as_bytes()).map_err(tls)?).map_err(tls)?;
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
            .allow_unauthenticated()
            .build()
            .map_err(tls)?;
        let chain = vec![CertificateDer::from_pem_slice(self.server.cert_pem.as_bytes()).map_err(tls)?];
        let key = PrivateKeyDer::from_pem_slice(self.server.key_pem.as_bytes()).map_err(tls)?;
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(tls)?
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain, key)
            .map_err(tls)?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }
}

/// A client certificate that is kept nowhere, by the CA of this directory.
///
/// # Errors
/// The CA cannot be read, or the certificate not be made.
pub fn issue_client(dir: &Path, user: &str, groups: &[String], clock: &Clock) -> Result<Credential, PkiError> {
    let now = clock.now();
    let (_, issuer) = load_or_create_ca(dir, now)?;
    Authority { dir, issuer: &issuer, now }.issue(&client_identity(user, groups))
}

/// The organizations, which are groups, of whom a request for a certificate (PEM) is.
pub fn requested_groups(request: &str) -> Vec<String> {
    subject_of_request(request).map(|(_, groups)| groups).unwrap_or_default()
}

/// Of whom a request for a certificate (PEM) is, as DER, and the organizations of that.
fn subject_of_request(request: &str) -> Option<(Vec<u8>, Vec<String>)> {
    use x509_parser::prelude::FromDer as _;
    let (_, pem) = x509_parser::pem::parse_x509_pem(request.as_bytes()).ok()?;
    let (_, parsed) = x509_parser::certification_request::X509CertificationRequest::from_der(&pem.contents).ok()?;
    let subject = &parsed.certification_request_info.subject;
    Some((subject.as_raw().to_vec(), organizations_of(subject)))
}

fn organizations_of(name: &X509Name<'_>) -> Vec<String> {
    name.iter_organization().filter_map(|o| o.as_str().ok()).map(str::to_owned).collect()
}

/// What a certificate is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestedUse {
    /// For servers, and not for clients.
    pub is_serving: bool,
    /// By a node.
    pub is_of_node: bool,
}

impl RequestedUse {
    /// Source: `pkg/controller/certificates/authority` and `ValidateKubeletServingCSR` in pkg/apis/certificates/helpers.go.
    fn check(self, params: &CertificateParams) -> Result<(), String> {
        let text = |of: &DnType| params.distinguished_name.get(of).map(text_of).unwrap_or_default();
        let (organization, name) = (text(&DnType::OrganizationName), text(&DnType::CommonName));
        if !self.is_of_node {
            return Ok(());
        }
        if organization != "system:nodes" {
            return Err(NOT_OF_NODES.to_owned());
        }
        if !name.starts_with("system:node:") {
            return Err("subject common name does not begin with system:node:".to_owned());
        }
        match (self.is_serving, params.subject_alt_names.is_empty()) {
            (true, true) => Err("DNS or IP subjectAltName is required".to_owned()),
            (false, false) => Err("subjectAltNames are not allowed".to_owned()),
            _ => Ok(()),
        }
    }
}

fn text_of(value: &DnValue) -> String {
    match value {
        DnValue::Utf8String(text) => text.clone(),
        DnValue::PrintableString(text) => text.as_str().to_owned(),
        DnValue::Ia5String(text) => text.as_str().to_owned(),
        _ => String::new(),
    }
}

/// Whether a skiff made this certificate of a CA.
pub fn is_ca_of_skiff(pem: &str) -> bool {
    let Ok(der) = CertificateDer::from_pem_slice(pem.as_bytes()) else { return false };
    let Ok((_, cert)) = x509_parser::parse_x509_certificate(&der) else { return false };
    let name = cert.subject().iter_common_name().next().and_then(|name| name.as_str().ok());
    name.is_some_and(|name| name.starts_with(CA_NAME))
}

/// What a certificate says of its owner.
struct Identity {
    common_name: String,
    organizations: Vec<String>,
    sans: Set<String>,
    usage: ExtendedKeyUsagePurpose,
}

fn server_identity(extra: &[String]) -> Identity {
    let sans = STANDARD_SANS.iter().map(|s| (*s).to_owned()).chain(extra.iter().cloned());
    Identity {
        common_name: "kube-apiserver".to_owned(),
        organizations: Vec::new(),
        // Addresses have one spelling, so that a set can be compared with the one of a certificate.
        sans: sans.map(|s| s.parse::<IpAddr>().map_or(s, |ip| ip.to_string())).collect(),
        usage: ExtendedKeyUsagePurpose::ServerAuth,
    }
}

/// Who serves a host. The name of an owner is shorter than that of a host may be.
/// Source: `ub-common-name` in RFC 5280, appendix A.1.
fn host_identity(host: &str) -> Identity {
    const COMMON_NAME_LENGTH_MAX: usize = 64;
    let common_name = if host.len() <= COMMON_NAME_LENGTH_MAX { host } else { "skiff-router" };
    Identity {
        common_name: common_name.to_owned(),
        organizations: Vec::new(),
        sans: [host.to_owned()].into(),
        usage: ExtendedKeyUsagePurpose::ServerAuth,
    }
}

fn client_identity(user: &str, groups: &[String]) -> Identity {
    Identity {
        common_name: user.to_owned(),
        organizations: groups.to_vec(),
        sans: Set::new(),
        usage: ExtendedKeyUsagePurpose::ClientAuth,
    }
}

/// Issues certificates and keeps them in files.
struct Authority<'a> {
    dir: &'a Path,
    issuer: &'a Issuer<'static, KeyPair>,
    now: Timestamp,
}

impl Authority<'_> {
    fn credential(&self, file: &str, wanted: &Identity) -> Result<Credential, PkiError> {
        if let Some(found) = read_pair(self.dir, file)?
            && self.still_good(&found, wanted)
        {
            return Ok(found);
        }
        let issued = self.issue(wanted)?;
        // What a power cut takes is issued again.
        write_pair(self.dir, file, &issued, Durable::No)?;
        Ok(issued)
    }

    fn issue(&self, who: &Identity) -> Result<Credential, PkiError> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let mut params = CertificateParams::default();
        for san in &who.sans {
            let named = CertificateParams::new([san.clone()]).map_err(|_err| PkiError::BadName(san.clone()))?;
            params.subject_alt_names.extend(named.subject_alt_names);
        }
        params.distinguished_name = distinguished_name(&who.common_name, who.organizations.first().map(String::as_str));
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
        params.extended_key_usages = vec![who.usage.clone()];
        params.use_authority_key_identifier_extension = true;
        set_validity(&mut params, self.now, LEAF_YEARS);
        let cert = params.signed_by(&key, self.issuer)?;
        let cert_pem = if who.organizations.len() > 1 {
            let whole = subject::of(&who.common_name, &who.organizations);
            let named = || PkiError::BadName(format!("{} of {}", who.common_name, who.organizations.join(", ")));
            subject::replaced(cert.der(), &whole, self.issuer.key()).ok_or_else(named)?
        } else {
            cert.pem()
        };
        Ok(Credential { cert_pem, key_pem: key.serialize_pem() })
    }

    /// Whether a stored credential is of this CA, for this owner, with all names, and valid for long enough.
    fn still_good(&self, found: &Credential, wanted: &Identity) -> bool {
        let Ok(der) = CertificateDer::from_pem_slice(found.cert_pem.as_bytes()) else { return false };
        let Ok((_, cert)) = x509_parser::parse_x509_certificate(&der) else { return false };
        let subject = |name: Option<&x509_parser::x509::AttributeTypeAndValue<'_>>| {
            name.and_then(|n| n.as_str().ok()).map(str::to_owned)
        };
        key_fits(&cert, &found.key_pem)
            && is_fresh(&cert, self.now)
            && signed_with(&cert, self.issuer)
            && subject(cert.subject().iter_common_name().next()).as_deref() == Some(&wanted.common_name)
            && organizations_of(cert.subject()) == wanted.organizations
            && names_of(&cert).is_superset(&wanted.sans)
    }
}

fn load_or_create_ca(dir: &Path, now: Timestamp) -> Result<(String, Issuer<'static, KeyPair>), PkiError> {
    if let Some(found) = read_pair(dir, "ca")? {
        let damaged = || PkiError::DamagedCa { path: dir.join("ca.crt") };
        let der = CertificateDer::from_pem_slice(found.cert_pem.as_bytes()).map_err(|_err| damaged())?;
        let (_, cert) = x509_parser::parse_x509_certificate(&der).map_err(|_err| damaged())?;
        if !key_fits(&cert, &found.key_pem) {
            return Err(damaged());
        }
        if is_fresh(&cert, now) {
            let key = KeyPair::from_pem(&found.key_pem).map_err(|_err| damaged())?;
            let issuer = Issuer::from_ca_cert_der(&der, key).map_err(|_err| damaged())?;
            return Ok((found.cert_pem, issuer));
        }
    }
    create_ca(dir, now)
}

fn create_ca(dir: &Path, now: Timestamp) -> Result<(String, Issuer<'static, KeyPair>), PkiError> {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    // Two CAs of one name but different keys confuse clients that trust both.
    let id = params.key_identifier(&key).iter().take(4).fold(0u32, |id, b| id << 8 | u32::from(*b));
    params.distinguished_name = distinguished_name(&format!("{CA_NAME}{id:08x}"), None);
    set_validity(&mut params, now, CA_YEARS);
    let cert = params.self_signed(&key)?;
    let pair = Credential { cert_pem: cert.pem(), key_pem: key.serialize_pem() };
    write_pair(dir, "ca", &pair, Durable::Yes)?;
    // Reading the issuer back from the certificate keeps one road for new and stored CAs.
    Ok((pair.cert_pem, Issuer::from_ca_cert_der(cert.der(), key)?))
}

/// The key of tokens; every token that was issued needs it, so that it must survive.
fn load_or_create_token_key(dir: &Path) -> Result<KeyPair, PkiError> {
    const FILE: &str = "sa.key";
    let path = dir.join(FILE);
    match fs::read_to_string(&path) {
        Ok(pem) => KeyPair::from_pem(&pem).map_err(|_err| PkiError::DamagedKey { path }),
        Err(err) if err.kind() == std::io::ErrorKind::NotFound => {
            let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
            write_file(dir, FILE, &key.serialize_pem(), Durable::Yes)?;
            Ok(key)
        }
        Err(err) => Err(io("read", &path, err)),
    }
}

fn distinguished_name(common_name: &str, organization: Option<&str>) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    if let Some(organization) = organization {
        name.push(DnType::OrganizationName, organization);
    }
    name.push(DnType::CommonName, common_name);
    name
}

/// Valid from yesterday, for clocks that are behind, in whole days.
fn set_validity(params: &mut CertificateParams, now: Timestamp, years: i16) {
    let today = now.to_zoned(TimeZone::UTC).date();
    let moment = |d: Date| {
        let part = |n: i8| u8::try_from(n).expect("months and days are positive");
        rcgen::date_time_ymd(i32::from(d.year()), part(d.month()), part(d.day()))
    };
    params.not_before = moment(today.yesterday().unwrap_or(today));
    let end = Date::new(today.year() + years, today.month(), today.day().min(28));
    params.not_after = moment(end.expect("the 28th or an earlier day is in every month of the next decades"));
}

fn is_fresh(cert: &X509Certificate<'_>, now: Timestamp) -> bool {
    let validity = cert.validity();
    validity.not_before.timestamp() <= now.as_second()
        && validity.not_after.timestamp() > now.as_second() + RENEW_BEFORE_SECS
}

fn key_fits(cert: &X509Certificate<'_>, key_pem: &str) -> bool {
    KeyPair::from_pem(key_pem).is_ok_and(|key| key.der_bytes() == cert.public_key().subject_public_key.data.as_ref())
}

/// Whether the certificate names this CA's key as its signer's.
fn signed_with(cert: &X509Certificate<'_>, issuer: &Issuer<'static, KeyPair>) -> bool {
    // The method only matters for how the key's name is made, and every CA of ours uses the default.
    let id = CertificateParams::default().key_identifier(issuer.key());
    cert.iter_extensions().any(|e| match e.parsed_extension() {
        x509_parser::extensions::ParsedExtension::AuthorityKeyIdentifier(aki) => {
            aki.key_identifier.as_ref().is_some_and(|k| k.0 == id)
        }
        _ => false,
    })
}

fn names_of(cert: &X509Certificate<'_>) -> Set<String> {
    let Ok(Some(extension)) = cert.subject_alternative_name() else { return Set::new() };
    let text = |name: &GeneralName<'_>| match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(bytes) => match bytes.len() {
            4 => <[u8; 4]>::try_from(*bytes).ok().map(|b| IpAddr::from(b).to_string()),
            _ => <[u8; 16]>::try_from(*bytes).ok().map(|b| IpAddr::from(b).to_string()),
        },
        _ => None,
    };
    extension.value.general_names.iter().filter_map(text).collect()
}

fn io(doing: &'static str, path: &Path, source: std::io::Error) -> PkiError {
    PkiError::Io { doing, path: path.to_owned(), source }
}

/// Both files of a pair, or `None` when one is missing.
fn read_pair(dir: &Path, file: &str) -> Result<Option<Credential>, PkiError> {
    let read = |suffix: &str| {
        let path = dir.join(format!("{file}.{suffix}"));
        match fs::read_to_string(&path) {
            Ok(text) => Ok(Some(text)),
            Err(err) if err.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(err) => Err(io("read", &path, err)),
        }
    };
    Ok(read("crt")?.zip(read("key")?).map(|(cert_pem, key_pem)| Credential { cert_pem, key_pem }))
}

/// Whether a file must survive a power cut.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Durable {
    Yes,
    No,
}

fn write_pair(dir: &Path, file: &str, pair: &Credential, durable: Durable) -> Result<(), PkiError> {
    write_file(dir, &format!("{file}.key"), &pair.key_pem, durable)?;
    write_file(dir, &format!("{file}.crt"), &pair.cert_pem, durable)
}

fn write_file(dir: &Path, name: &str, text: &str, durable: Durable) -> Result<(), PkiError> {
    let (path, temporary) = (dir.join(name), dir.join(format!("{name}.tmp")));
    match fs::remove_file(&temporary) {
        Err(err) if err.kind() != std::io::ErrorKind::NotFound => return Err(io("remove", &temporary, err)),
        _ => {}
    }
    let write = || {
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
        file.write_all(text.as_bytes())?;
        if durable == Durable::Yes { file.sync_data() } else { Ok(()) }
    };
    write().map_err(|e| io("write", &temporary, e))?;
    fs::rename(&temporary, &path).map_err(|e| io("write", &path, e))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clock_at(time: &str) -> Clock {
        Clock::simulated(time.parse().unwrap())
    }

    fn parsed<T>(pem: &str, look: impl Fn(&X509Certificate<'_>) -> T) -> T {
        let der = CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
        look(&x509_parser::parse_x509_certificate(&der).unwrap().1)
    }

    #[tokio::test(start_paused = true)]
    async fn a_second_start_finds_what_the_first_made() {
        let dir = tempfile::tempdir().unwrap();
        let clock = clock_at("2026-03-01T12:00:00Z");
        let first = load_or_create(dir.path(), &["10.245.0.1".to_owned()], &clock).unwrap();
        let second = load_or_create(dir.path(), &["10.245.0.1".to_owned()], &clock).unwrap();
        assert_eq!(first.ca_pem, second.ca_pem);
        assert_eq!(first.server, second.server);
        assert_eq!(first.token_key(), second.token_key());
        assert_eq!(first.admin, second.admin);
        second.server_config().unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn names_and_owners_are_in_the_certificates() {
        let dir = tempfile::tempdir().unwrap();
        let pki = load_or_create(dir.path(), &["me.example".to_owned()], &clock_at("2026-03-01T12:00:00Z")).unwrap();
        let names = parsed(&pki.server.cert_pem, names_of);
        for name in ["localhost", "::1", "kubernetes.default.svc.cluster.local", "me.example"] {
            assert!(names.contains(name), "{name} is not in {names:?}");
        }
        assert_eq!(parsed(&pki.admin.cert_pem, |c| c.subject().to_string()), "O=system:masters, CN=kubernetes-admin");
        assert_eq!(parsed(&pki.proxy.cert_pem, |c| c.subject().to_string()), "CN=system:kube-proxy");
    }

    #[tokio::test(start_paused = true)]
    async fn a_user_of_several_groups_has_them_all_in_a_certificate() {
        let dir = tempfile::tempdir().unwrap();
        let clock = clock_at("2026-03-01T12:00:00Z");
        let pki = load_or_create(dir.path(), &[], &clock).unwrap();
        let groups: Vec<String> = (0..12).map(|n| format!("a-group-of-people-{n}")).collect();
        let issued = issue_client(dir.path(), "ann", &groups, &clock).unwrap();
        assert_eq!(parsed(&issued.cert_pem, |c| organizations_of(c.subject())), groups);
        assert!(pki.authority().still_good(&issued, &client_identity("ann", &groups)));
        let name =
            parsed(&issued.cert_pem, |c| c.subject().iter_common_name().next().unwrap().as_str().unwrap().to_owned());
        assert_eq!(name, "ann");
    }

    #[tokio::test(start_paused = true)]
    async fn a_new_name_changes_the_server_certificate_alone() {
        let dir = tempfile::tempdir().unwrap();
        let clock = clock_at("2026-03-01T12:00:00Z");
        let first = load_or_create(dir.path(), &[], &clock).unwrap();
        let second = load_or_create(dir.path(), &["192.0.2.7".to_owned()], &clock).unwrap();
        assert_eq!(first.ca_pem, second.ca_pem);
        assert_eq!(first.admin, second.admin);
        assert_ne!(first.server, second.server);
    }

    #[tokio::test(start_paused = true)]
    async fn what_expires_soon_is_issued_anew_by_the_same_ca() {
        let dir = tempfile::tempdir().unwrap();
        let first = load_or_create(dir.path(), &[], &clock_at("2026-03-01T12:00:00Z")).unwrap();
        let later = load_or_create(dir.path(), &[], &clock_at("2026-12-15T12:00:00Z")).unwrap();
        assert_eq!(first.ca_pem, later.ca_pem);
        assert_ne!(first.admin, later.admin);
        let much_later = load_or_create(dir.path(), &[], &clock_at("2036-01-15T12:00:00Z")).unwrap();
        assert_ne!(first.ca_pem, much_later.ca_pem);
        assert_ne!(later.server, much_later.server);
    }

    #[tokio::test(start_paused = true)]
    async fn a_certificate_of_another_ca_is_not_kept() {
        let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let clock = clock_at("2026-03-01T12:00:00Z");
        load_or_create(one.path(), &[], &clock).unwrap();
        load_or_create(other.path(), &[], &clock).unwrap();
        for file in ["ca.crt", "ca.key"] {
            fs::copy(other.path().join(file), one.path().join(file)).unwrap();
        }
        let mixed = load_or_create(one.path(), &[], &clock).unwrap();
        let issuer = parsed(&mixed.admin.cert_pem, |c| c.issuer().to_string());
        assert_eq!(issuer, parsed(&mixed.ca_pem, |c| c.subject().to_string()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_ca_that_lost_its_key_to_another_is_an_error() {
        let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let clock = clock_at("2026-03-01T12:00:00Z");
        load_or_create(one.path(), &[], &clock).unwrap();
        load_or_create(other.path(), &[], &clock).unwrap();
        fs::copy(other.path().join("ca.key"), one.path().join("ca.key")).unwrap();
        let err = load_or_create(one.path(), &[], &clock).unwrap_err();
        assert!(matches!(err, PkiError::DamagedCa { .. }), "{err}");
    }

    #[tokio::test(start_paused = true)]
    async fn keys_are_for_their_owner_only() {
        let dir = tempfile::tempdir().unwrap();
        load_or_create(&dir.path().join("pki"), &[], &clock_at("2026-03-01T12:00:00Z")).unwrap();
        let mode = |p: &Path| fs::metadata(p).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&dir.path().join("pki")), 0o700);
        for entry in fs::read_dir(dir.path().join("pki")).unwrap() {
            assert_eq!(mode(&entry.unwrap().path()), 0o600);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_host_gets_a_certificate_that_is_good_for_it_alone() {
        let dir = tempfile::tempdir().unwrap();
        let pki = load_or_create(dir.path(), &[], &clock_at("2026-03-01T12:00:00Z")).unwrap();
        let long = format!("{}.example.com", "a".repeat(60));
        for host in ["shop.localhost", "*.apps.localhost", &long] {
            let made = pki.issue_for_host(host).unwrap();
            assert_eq!(parsed(&made.cert_pem, names_of), [host.to_owned()].into());
            assert!(pki.is_good_for_host(&made, host));
            assert!(!pki.is_good_for_host(&made, "other.localhost"));
            let later = load_or_create(dir.path(), &[], &clock_at("2027-01-15T12:00:00Z")).unwrap();
            assert!(!later.is_good_for_host(&made, host), "it ends soon");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_name_that_is_none_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let clock = clock_at("2026-03-01T12:00:00Z");
        let err = load_or_create(dir.path(), &["bad näme".to_owned()], &clock).unwrap_err();
        assert!(matches!(&err, PkiError::BadName(n) if n == "bad näme"), "{err}");
    }
}
