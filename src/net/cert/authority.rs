//! Making certificates: the authority that a hub has of its own, and its leaf. The only door to rcgen.

use super::x509::{Parts, names, spki};
use super::{
    CA_CERT, CA_KEY, Failed, Identity, LEAF_CERT, LEAF_KEY, ascii_name, host_name, read_certs, read_file,
    sha256, warn_if_open, write_file,
};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, PublicKeyData, SanType, SerialNumber,
};
use ring::rand::{SecureRandom, SystemRandom};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

/// More addresses than this are not put into the leaf: it has to stay small for small devices.
const MAX_ADDRESSES: usize = 32;

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
    crate::net::sort_few(&mut ips, |a, b| a.is_ipv4() && b.is_ipv6());
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

pub(super) fn common_name(text: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, text);
    name
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
