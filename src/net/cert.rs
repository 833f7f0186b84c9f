//! Certificates: the hub's own authority and leaf, and pins.
//!
//! A hub makes its keys on first run, without internet and without a clock: the leaf is valid from
//! 1970 to 2120, and what clients pin is its *key* (SPKI), which survives every re-issue. Only
//! subjectAltName counts, the common name is never looked at (RFC 6125 §6.4.4, RFC 9525 §2).

mod x509;

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, PublicKeyData, SanType, SerialNumber,
};
use ring::digest;
use ring::rand::{SecureRandom, SystemRandom};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

pub use crate::stream::trust::{Pin, pin_text};
use x509::Parts;
pub use x509::{
    Hash, OtherName, constrains_names, end_point, issued_by, may_sign, names, other_names, self_issued,
    signature_hash, spki, validity,
};

/// More addresses than this are not put into the leaf: it has to stay small for small devices.
const MAX_ADDRESSES: usize = 32;

/// A PEM file larger than this is not a certificate or key of ours.
const MAX_FILE: u64 = 1 << 20;

const CA_CERT: &str = "ca.pem";
const CA_KEY: &str = "ca.key";
const LEAF_CERT: &str = "leaf.pem";
const LEAF_KEY: &str = "leaf.key";

/// All files of an authority, in its directory.
pub const FILES: [&str; 4] = [CA_CERT, CA_KEY, LEAF_CERT, LEAF_KEY];

/// What the leaf answers to besides its addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Names {
    /// The domain that the hub serves: a host name, an internationalised one, or an IP literal.
    pub domain: String,
    /// Other names for the same hub (`raspberrypi`, `raspberrypi.local`, an IP literal).
    pub aliases: Vec<String>,
}

impl Names {
    /// The domain, and as aliases this machine's own name, bare and under `.local`.
    pub fn of_this_machine(domain: &str) -> Names {
        let node = rustix::system::uname().nodename().to_string_lossy().to_ascii_lowercase();
        let bare = node.split('.').next().unwrap_or_default();
        let mut aliases = Vec::new();
        for name in [node.clone(), bare.to_owned(), format!("{bare}.local")] {
            if !bare.is_empty() && host_name(&name).is_some() {
                aliases.push(name);
            }
        }
        Names { domain: domain.to_owned(), aliases }
    }
}

/// A certificate chain and the key that belongs to its first certificate.
pub struct Identity {
    /// The chain as it is sent, leaf first.
    pub certs: Vec<CertificateDer<'static>>,
    /// SHA-256 of the leaf's SubjectPublicKeyInfo: what others pin.
    pub spki_sha256: Pin,
    /// SHA-256 of the whole leaf.
    pub cert_sha256: [u8; 32],
    key: PrivateKeyDer<'static>,
}

impl Identity {
    /// The private key, for the TLS configuration.
    pub fn key(&self) -> PrivateKeyDer<'static> {
        self.key.clone_key()
    }

    /// The pin as people read it: `sha256:…`.
    pub fn pin(&self) -> String {
        pin_text(&self.spki_sha256)
    }

    /// SHA-256 of the certificate, as other programs show it to people.
    pub fn fingerprint(&self) -> String {
        let hex: Vec<String> = self.cert_sha256.iter().map(|b| format!("{b:02X}")).collect();
        hex.join(":")
    }

    fn new(
        certs: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
        at: &Path,
    ) -> Result<Self, Failed> {
        let unreadable = || Failed::NotACertificate { path: at.to_owned() };
        let leaf = certs.first().ok_or_else(unreadable)?;
        let spki_sha256 = spki_sha256(leaf).ok_or_else(unreadable)?;
        let cert_sha256 = sha256(leaf);
        Ok(Identity { certs, spki_sha256, cert_sha256, key })
    }
}

impl Clone for Identity {
    fn clone(&self) -> Self {
        Identity {
            certs: self.certs.clone(),
            spki_sha256: self.spki_sha256,
            cert_sha256: self.cert_sha256,
            key: self.key.clone_key(),
        }
    }
}

impl fmt::Debug for Identity {
    /// Never the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identity({}, {} certificates)", self.pin(), self.certs.len())
    }
}

/// Why there is no identity. One line each, with the way out.
#[derive(Debug)]
pub enum Failed {
    /// A file or directory could not be read.
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        why: io::Error,
    },
    /// A file or directory could not be written.
    Write {
        /// Which.
        path: PathBuf,
        /// Why.
        why: io::Error,
    },
    /// No readable certificate in the file.
    NotACertificate {
        /// Which file.
        path: PathBuf,
    },
    /// No readable private key in the file.
    NotAKey {
        /// Which file.
        path: PathBuf,
    },
    /// The key does not belong to the (first) certificate.
    KeyMismatch {
        /// The certificate's file.
        cert: PathBuf,
        /// The key's file.
        key: PathBuf,
    },
    /// A new leaf is needed, and the authority's certificate is there without its key.
    CaKeyMissing {
        /// Where the key should be.
        path: PathBuf,
    },
    /// A name that no certificate can carry.
    BadName(String),
    /// The operating system has no random numbers for us.
    NoRandom,
    /// The certificate could not be made.
    Make(String),
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failed::Read { path, why } => {
                write!(f, "cannot read {}: {why}; check the path and its permissions", path.display())
            }
            Failed::Write { path, why } => {
                write!(
                    f,
                    "cannot write {}: {why}; the directory must be writable by this user",
                    path.display()
                )
            }
            Failed::NotACertificate { path } => write!(
                f,
                "{} holds no certificate; it must start with -----BEGIN CERTIFICATE----- (leaf first, then the chain)",
                path.display()
            ),
            Failed::NotAKey { path } => write!(
                f,
                "{} holds no usable private key; restore it from a backup, or delete it for a new key (every pin then changes)",
                path.display()
            ),
            Failed::KeyMismatch { cert, key } => write!(
                f,
                "{} is not the key of the first certificate in {}; give the pair that was made together, leaf first",
                key.display(),
                cert.display()
            ),
            Failed::CaKeyMissing { path } => write!(
                f,
                "{} is missing and a new certificate is needed; restore it, or delete {CA_CERT} beside it for a new authority",
                path.display()
            ),
            Failed::BadName(name) => write!(
                f,
                "{:?} cannot be in a certificate; use a host name such as pi.local, or an IP address",
                printable(name, 80)
            ),
            Failed::NoRandom => f.write_str("the system has no random numbers yet; try again in a moment"),
            Failed::Make(why) => write!(f, "cannot make a certificate: {why}"),
        }
    }
}

impl std::error::Error for Failed {}

/// The hub's own certificate authority: two keys and two certificates in one directory.
pub struct Authority;

impl Authority {
    /// Opens the authority in `dir`, or makes it; the leaf is re-issued, with the same key, when the
    /// names or this machine's addresses are no longer those that it carries.
    pub fn open_or_create(dir: &Path, names: &Names) -> Result<Identity, Failed> {
        Self::with_addresses(dir, names, &addresses())
    }

    /// The same for a given list of addresses.
    pub fn with_addresses(dir: &Path, names: &Names, addresses: &[IpAddr]) -> Result<Identity, Failed> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(dir)
            .map_err(|why| Failed::Write { path: dir.to_owned(), why })?;
        let (hosts, ips) = wanted(names, addresses)?;
        let (ca_cert, ca_key) = Self::ca(dir)?;
        let leaf_key = load_or_make_key(&dir.join(LEAF_KEY))?;
        let leaf_path = dir.join(LEAF_CERT);
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(leaf_key.serialize_der()));

        if let Some(leaf) = read_certs(&leaf_path)?.and_then(|certs| certs.into_iter().next())
            && still_good(&leaf, &leaf_key, &ca_cert, &hosts, &ips)
        {
            return Identity::new(vec![leaf], key, &leaf_path);
        }
        let ca_key = ca_key.ok_or_else(|| Failed::CaKeyMissing { path: dir.join(CA_KEY) })?;
        let issuer = Issuer::new(ca_params(&ca_key), ca_key);
        let leaf = leaf_params(&hosts, &ips)?.signed_by(&leaf_key, &issuer).map_err(make)?;
        write_file(&leaf_path, leaf.pem().as_bytes())?;
        Identity::new(vec![leaf.der().clone()], key, &leaf_path)
    }

    /// The authority's certificate in PEM, to import elsewhere or to give to `--cafile`.
    pub fn ca_pem(dir: &Path) -> Result<String, Failed> {
        let path = dir.join(CA_CERT);
        let bytes = read_file(&path)?;
        let bytes =
            bytes.ok_or_else(|| Failed::Read { path: path.clone(), why: io::ErrorKind::NotFound.into() })?;
        String::from_utf8(bytes).map_err(|_| Failed::NotACertificate { path })
    }

    /// The authority's certificate, and its key unless that is kept elsewhere.
    fn ca(dir: &Path) -> Result<(CertificateDer<'static>, Option<KeyPair>), Failed> {
        let (cert_path, key_path) = (dir.join(CA_CERT), dir.join(CA_KEY));
        let cert = match read_certs(&cert_path)? {
            Some(certs) => Some(
                certs
                    .into_iter()
                    .next()
                    .ok_or_else(|| Failed::NotACertificate { path: cert_path.clone() })?,
            ),
            None => None,
        };
        let key = match (load_key(&key_path)?, &cert) {
            (Some(key), _) => key,
            (None, Some(cert)) => return Ok((cert.clone(), None)),
            (None, None) => load_or_make_key(&key_path)?,
        };
        let cert = match cert {
            Some(cert) if spki(&cert) == Some(key.subject_public_key_info().as_slice()) => cert,
            Some(_) => return Err(Failed::KeyMismatch { cert: cert_path, key: key_path }),
            None => {
                let cert = ca_params(&key).self_signed(&key).map_err(make)?;
                write_file(&cert_path, cert.pem().as_bytes())?;
                cert.der().clone()
            }
        };
        Ok((cert, Some(key)))
    }
}

/// Loads what the operator brings along (`--cert`, `--key`): a PEM chain, leaf first, and its key.
/// The second value are warnings, for a certificate that will work for nobody who asks for `domain`.
pub fn from_files(cert: &Path, key: &Path, domain: &str) -> Result<(Identity, Vec<String>), Failed> {
    let missing = |path: &Path| Failed::Read { path: path.to_owned(), why: io::ErrorKind::NotFound.into() };
    let certs = read_certs(cert)?.ok_or_else(|| missing(cert))?;
    let key_pem = read_file(key)?.ok_or_else(|| missing(key))?;
    let not_a_key = || Failed::NotAKey { path: key.to_owned() };
    let key_der = PrivateKeyDer::from_pem_slice(&key_pem).map_err(|_| not_a_key())?;
    let public = super::tls::public_key(&key_der).ok_or_else(not_a_key)?;
    let identity = Identity::new(certs, key_der, cert)?;
    let leaf = identity.certs.first().ok_or_else(|| Failed::NotACertificate { path: cert.to_owned() })?;
    if spki(leaf) != Some(public.as_slice()) {
        return Err(Failed::KeyMismatch { cert: cert.to_owned(), key: key.to_owned() });
    }
    warn_if_open(key);
    let mut warnings = Vec::new();
    if !super::tls::covers(leaf, domain) {
        warnings.push(format!(
            "{} is for {}, not for {domain}: clients will refuse it unless they pin {}",
            cert.display(),
            list(&names(leaf)),
            identity.pin()
        ));
    }
    Ok((identity, warnings))
}

/// The pin of the first certificate in a PEM file.
pub fn pin_of_file(path: &Path) -> Result<String, Failed> {
    let missing = || Failed::Read { path: path.to_owned(), why: io::ErrorKind::NotFound.into() };
    let certs = read_certs(path)?.ok_or_else(missing)?;
    let pin = certs.first().and_then(|cert| spki_sha256(cert));
    pin.map(|pin| pin_text(&pin)).ok_or_else(|| Failed::NotACertificate { path: path.to_owned() })
}

/// Reads a pin: base64 with or without padding, or hex with or without colons, with or without the
/// words `sha256:` or `sha256//` before it.
pub fn parse_pin(text: &str) -> Option<Pin> {
    let text = text.trim();
    let text = match text.get(..7) {
        Some(word) if word.eq_ignore_ascii_case("sha256:") => text.get(7..)?,
        _ => text.strip_prefix("sha256//").unwrap_or(text),
    };
    let hex: String = text.chars().filter(|c| *c != ':').collect();
    if hex.len() == 64 && hex.bytes().all(|b| b.is_ascii_hexdigit()) {
        let mut pin = [0u8; 32];
        for (byte, pair) in pin.iter_mut().zip(hex.as_bytes().chunks_exact(2)) {
            *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
        }
        return Some(pin);
    }
    BASE64.decode(text).ok()?.try_into().ok()
}

const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// SHA-256.
pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut out = [0u8; 32];
    for (to, from) in out.iter_mut().zip(digest::digest(&digest::SHA256, bytes).as_ref()) {
        *to = *from;
    }
    out
}

/// The pin of a certificate.
pub fn spki_sha256(cert: &[u8]) -> Option<Pin> {
    spki(cert).map(sha256)
}

/// A host name or IP literal as certificates and DNS want it: A-labels, lower case, no final dot.
/// `None` for what is neither. (RFC 5890 §2.3.2.1, RFC 7622 §3.2.)
pub fn ascii_name(name: &str) -> Option<String> {
    let name = name.strip_suffix('.').unwrap_or(name);
    if let Some(ip) = ip_literal(name) {
        return Some(ip.to_string());
    }
    if name.is_ascii() {
        return host_name(name).map(str::to_ascii_lowercase);
    }
    let ascii = idna::domain_to_ascii(name).ok()?;
    host_name(&ascii).map(str::to_ascii_lowercase)
}

/// `192.0.2.1`, `2001:db8::1` or `[2001:db8::1]`.
pub fn ip_literal(name: &str) -> Option<IpAddr> {
    let bare = name.strip_prefix('[').and_then(|n| n.strip_suffix(']'));
    match bare {
        Some(v6) => v6.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
        None => name.parse().ok(),
    }
}

fn host_name(name: &str) -> Option<&str> {
    let label = |l: &str| {
        (1..=63).contains(&l.len())
            && l.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
            && !l.starts_with('-')
            && !l.ends_with('-')
    };
    (name.len() <= 253 && name.split('.').all(label)).then_some(name)
}

/// Outside text for one line of a terminal or a log: no controls, no bidi tricks, not too long.
pub fn printable(text: &str, max: usize) -> String {
    let mut out: String =
        text.chars().take(max).map(|c| if c.is_ascii_graphic() || c == ' ' { c } else { '?' }).collect();
    if text.chars().nth(max).is_some() {
        out.push('…');
    }
    out
}

/// At most eight names, for an error message.
pub(super) fn list(names: &[String]) -> String {
    if names.is_empty() {
        return "no name at all".to_owned();
    }
    let mut out = names.iter().take(8).map(|n| printable(n, 80)).collect::<Vec<_>>().join(", ");
    let rest = names.len().saturating_sub(8);
    if rest > 0 {
        out.push_str(&format!(" and {rest} more"));
    }
    out
}

// ---- making ----------------------------------------------------------------------------------------

fn make(why: rcgen::Error) -> Failed {
    Failed::Make(why.to_string())
}

/// Every address of every interface, loopback too; without them if the system does not tell. Not IPv6 link-local
/// ones: nobody types them, and every container that starts brings another.
fn addresses() -> Vec<IpAddr> {
    let mut ips: Vec<IpAddr> = match if_addrs::get_if_addrs() {
        Ok(interfaces) => interfaces.into_iter().map(|i| i.ip()).collect(),
        Err(why) => {
            log::warn!("cannot list this machine's addresses ({why}): they will not be in the certificate");
            Vec::new()
        }
    };
    ips.retain(|ip| !matches!(ip, IpAddr::V6(v6) if v6.is_unicast_link_local()));
    // Those that people type come first, in case there are too many.
    ips.sort_by_key(IpAddr::is_ipv6);
    ips
}

/// The names and addresses that the leaf must carry: sorted, without repetition, domain first.
fn wanted(names: &Names, addresses: &[IpAddr]) -> Result<(Vec<String>, Vec<IpAddr>), Failed> {
    let mut hosts: Vec<String> = Vec::new();
    let mut ips: Vec<IpAddr> = vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
    let named = std::iter::once(&names.domain).chain(&names.aliases).map(String::as_str);
    for name in named.chain(["localhost"]) {
        let ascii = ascii_name(name).ok_or_else(|| Failed::BadName(name.to_owned()))?;
        match ascii.parse() {
            Ok(ip) if !ips.contains(&ip) => ips.push(ip),
            Ok(_) => {}
            Err(_) if !hosts.contains(&ascii) => hosts.push(ascii),
            Err(_) => {}
        }
    }
    for ip in addresses.iter().map(IpAddr::to_canonical) {
        if !ips.contains(&ip) && ips.len() < MAX_ADDRESSES {
            ips.push(ip);
        }
    }
    Ok((hosts, ips))
}

/// A leaf may keep an address that has gone, which saves a write at every move between networks;
/// a name that is no longer ours goes.
fn still_good(leaf: &[u8], key: &KeyPair, ca: &[u8], hosts: &[String], ips: &[IpAddr]) -> bool {
    let Some(parts) = Parts::of(leaf) else { return false };
    let has = names(leaf);
    parts.spki == key.subject_public_key_info()
        && Parts::of(ca).is_some_and(|ca| ca.subject == parts.issuer)
        && hosts.iter().all(|name| has.contains(name))
        && ips.iter().all(|ip| has.contains(&ip.to_string()))
        && has.iter().all(|name| name.parse::<IpAddr>().is_ok() || hosts.contains(name))
}

/// The authority's name holds part of its key's hash: two hubs never share an issuer name, and the
/// certificate can be made again from the key alone.
fn ca_params(key: &KeyPair) -> CertificateParams {
    let hash = sha256(&key.subject_public_key_info());
    let id: String = hash.iter().take(6).map(|b| format!("{b:02x}")).collect();
    let mut params = CertificateParams::default();
    params.distinguished_name = common_name(&format!("Stonechat CA {id}"));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    forever(&mut params);
    params
}

fn leaf_params(hosts: &[String], ips: &[IpAddr]) -> Result<CertificateParams, Failed> {
    let mut serial = [0u8; 16];
    SystemRandom::new().fill(&mut serial).map_err(|_| Failed::NoRandom)?;
    if let Some(first) = serial.first_mut() {
        *first = *first & 0x7f | 0x40; // positive, and never shorter than 16 bytes
    }
    let mut params = CertificateParams::default();
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    params.distinguished_name = common_name("Stonechat hub");
    for host in hosts {
        let name = host.as_str().try_into().map_err(|_| Failed::BadName(host.clone()))?;
        params.subject_alt_names.push(SanType::DnsName(name));
    }
    params.subject_alt_names.extend(ips.iter().map(|ip| SanType::IpAddress(*ip)));
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    params.use_authority_key_identifier_extension = true;
    forever(&mut params);
    Ok(params)
}

/// Valid with every clock, the one that stands at 1970 included.
fn forever(params: &mut CertificateParams) {
    params.not_before = rcgen::date_time_ymd(1970, 1, 1);
    params.not_after = rcgen::date_time_ymd(2120, 1, 1);
}

fn common_name(text: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, text);
    name
}

// ---- files -----------------------------------------------------------------------------------------

/// `None` if there is no such file.
fn read_file(path: &Path) -> Result<Option<Vec<u8>>, Failed> {
    let failed = |why| Failed::Read { path: path.to_owned(), why };
    match super::read_capped(path, MAX_FILE) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(why) if why.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(why) => Err(failed(why)),
    }
}

fn read_certs(path: &Path) -> Result<Option<Vec<CertificateDer<'static>>>, Failed> {
    let Some(pem) = read_file(path)? else { return Ok(None) };
    let certs: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    match certs {
        Ok(certs) if !certs.is_empty() => Ok(Some(certs)),
        _ => Err(Failed::NotACertificate { path: path.to_owned() }),
    }
}

fn load_key(path: &Path) -> Result<Option<KeyPair>, Failed> {
    let Some(pem) = read_file(path)? else { return Ok(None) };
    warn_if_open(path);
    let not_a_key = || Failed::NotAKey { path: path.to_owned() };
    let der = PrivateKeyDer::from_pem_slice(&pem).map_err(|_| not_a_key())?;
    KeyPair::try_from(&der).map(Some).map_err(|_| not_a_key())
}

fn load_or_make_key(path: &Path) -> Result<KeyPair, Failed> {
    if let Some(key) = load_key(path)? {
        return Ok(key);
    }
    let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).map_err(make)?;
    write_file(path, key.serialize_pem().as_bytes())?;
    Ok(key)
}

fn warn_if_open(path: &Path) {
    if let Ok(meta) = fs::metadata(path)
        && meta.permissions().mode() & 0o077 != 0
    {
        log::warn!("{} can be read by others: chmod 600 it", path.display());
    }
}

/// Whole or not at all, also when the power goes: temporary file (new, 0600), fsync, rename, fsync of
/// the directory.
/// Writes a file that only its owner can read, in the place of what was there, whole or not at all.
pub fn write_file(path: &Path, bytes: &[u8]) -> Result<(), Failed> {
    let failed = |why| Failed::Write { path: path.to_owned(), why };
    let mut tag = [0u8; 8];
    SystemRandom::new().fill(&mut tag).map_err(|_| Failed::NoRandom)?;
    let tag: String = tag.iter().map(|b| format!("{b:02x}")).collect();
    let temporary = path.with_extension(format!("{tag}.new"));
    let written = (|| {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        match path.parent() {
            Some(dir) if !dir.as_os_str().is_empty() => File::open(dir)?.sync_all(),
            _ => File::open(".")?.sync_all(),
        }
    })();
    if written.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    written.map_err(failed)
}

#[cfg(test)]
pub(super) mod tests;
