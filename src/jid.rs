//! Addresses (RFC 7622): normalised once at the door, and only normal forms are ever compared.
//!
//! A [`Jid`] is a view that borrows its text when that text is in normal form already, as nearly
//! every address on the wire is. [`BareJid`], [`FullJid`] and [`Domain`] own theirs. All four have
//! one constructor each, so whoever holds one holds a normal form, and two spellings of one
//! address can never become two accounts, two sessions or two peers.
//!
//! What is one address and what is not:
//!
//! - For ASCII the result is that of RFC 6122 (stringprep), which most of the network still uses.
//! - Beyond ASCII it is RFC 7622: `UsernameCaseMapped` and `OpaqueString` (RFC 8265), applied until
//!   nothing changes (RFC 8264 §7). Code points that are younger than the PRECIS registry (Unicode
//!   6.3) are judged by the same rules on today's tables: a nickname that a room of another server
//!   lets through, with an emoji of 2015 in it, must not make us drop stanzas.
//! - Domainparts are U-labels (UTS 46 non-transitional, which is what IDNA2008 looks names up
//!   with); `xn--` forms become what they stand for, or are refused.

mod precis;

use std::borrow::{Borrow, Cow};
use std::fmt;
use std::net::Ipv6Addr;

use idna::uts46::{AsciiDenyList, Hyphens, Uts46};

/// The most bytes of a part (RFC 7622 §3.2, §3.3, §3.4), in normal form and, so that nobody can
/// make us map kilobytes which come to nothing, as written.
const PART_MAX: usize = 1023;

/// The most bytes of a label, in the `xn--` form if it has one (RFC 1035 §2.3.4).
const LABEL_MAX: usize = 63;

/// A view of an address in normal form.
///
/// Borrows the text it was parsed from when that was in normal form, owns it otherwise.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Jid<'a> {
    text: Cow<'a, str>,
    /// Where the `@` is; 0 without a localpart, which if there is one is never empty.
    at: u16,
    /// Where the `/` is; 0 without a resourcepart.
    slash: u16,
}

impl<'a> Jid<'a> {
    /// Reads an address and brings it into normal form (RFC 7622 §3.1).
    pub fn parse(text: &'a str) -> Result<Jid<'a>, Malformed> {
        if let Some((at, slash)) = plain(text.as_bytes()) {
            return Ok(Jid { text: Cow::Borrowed(text), at, slash });
        }
        // "/" first: an "@" behind it belongs to the resourcepart.
        let (bare, resource) = match text.split_once('/') {
            Some((bare, resource)) => (bare, Some(resourcepart(resource)?)),
            None => (text, None),
        };
        let (local, domain) = match bare.split_once('@') {
            Some((local, domain)) => (Some(localpart(local)?), domainpart(domain)?),
            None => (None, domainpart(bare)?),
        };
        Jid::join(Some(text), local, domain, resource)
    }

    /// Puts parts in normal form together; `written` is what they were cut from.
    fn join(
        written: Option<&'a str>,
        local: Option<Cow<'_, str>>,
        domain: Cow<'_, str>,
        resource: Option<Cow<'_, str>>,
    ) -> Result<Jid<'a>, Malformed> {
        let at = local.as_ref().map_or(0, |local| local.len());
        let slash = match at {
            0 => domain.len(),
            _ => at.saturating_add(1).saturating_add(domain.len()),
        };
        let end = resource.as_ref().map_or(slash, |part| slash.saturating_add(1).saturating_add(part.len()));
        let mapped = |part: &Cow<'_, str>| matches!(part, Cow::Owned(_));
        let text = match written {
            // A trailing dot is cut off without a copy, hence the comparison of lengths.
            Some(written)
                if written.len() == end
                    && !mapped(&domain)
                    && !local.as_ref().is_some_and(mapped)
                    && !resource.as_ref().is_some_and(mapped) =>
            {
                Cow::Borrowed(written)
            }
            _ => {
                let mut text = String::with_capacity(end.min(3 * PART_MAX + 2));
                if let Some(local) = &local {
                    text.push_str(local);
                    text.push('@');
                }
                text.push_str(&domain);
                if let Some(resource) = &resource {
                    text.push('/');
                    text.push_str(resource);
                }
                Cow::Owned(text)
            }
        };
        // Three parts of PART_MAX bytes fit, so these cannot fail.
        let at = u16::try_from(at).map_err(|_| Malformed::LocalLength)?;
        let slash = match resource {
            Some(_) => u16::try_from(slash).map_err(|_| Malformed::DomainLength)?,
            None => 0,
        };
        Ok(Jid { text, at, slash })
    }

    /// The whole address.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The localpart, if there is one.
    pub fn local(&self) -> Option<&str> {
        match self.at {
            0 => None,
            at => self.text.get(..usize::from(at)),
        }
    }

    /// The domainpart.
    pub fn domain(&self) -> &str {
        let bare = self.bare();
        match self.at {
            0 => bare,
            at => bare.get(usize::from(at).saturating_add(1)..).unwrap_or_default(),
        }
    }

    /// The resourcepart, if there is one.
    pub fn resource(&self) -> Option<&str> {
        match self.slash {
            0 => None,
            slash => self.text.get(usize::from(slash).saturating_add(1)..),
        }
    }

    /// The address without its resourcepart: `local@domain` or `domain`.
    pub fn bare(&self) -> &str {
        match self.slash {
            0 => &self.text,
            slash => self.text.get(..usize::from(slash)).unwrap_or_default(),
        }
    }

    /// Whether there is no resourcepart.
    pub fn is_bare(&self) -> bool {
        self.slash == 0
    }

    /// Whether there is a resourcepart.
    pub fn is_full(&self) -> bool {
        self.slash != 0
    }

    /// The same address, owning its text.
    pub fn into_owned(self) -> Jid<'static> {
        Jid { text: Cow::Owned(self.text.into_owned()), at: self.at, slash: self.slash }
    }

    /// The address without its resourcepart.
    pub fn to_bare(&self) -> BareJid {
        BareJid(self.bare().into())
    }

    /// The address if it has a resourcepart.
    pub fn to_full(&self) -> Option<FullJid> {
        self.is_full().then(|| FullJid(self.as_str().into()))
    }

    /// The domainpart alone.
    pub fn to_domain(&self) -> Domain {
        Domain(self.domain().into())
    }
}

impl fmt::Display for Jid<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Jid<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Jid({:?})", &*self.text)
    }
}

/// What the owned forms have in common: they hash, compare and look up as their text does.
macro_rules! as_text {
    ($name:ident) => {
        impl $name {
            /// The text, in normal form.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl From<$name> for Box<str> {
            fn from(value: $name) -> Box<str> {
                value.0
            }
        }

        impl std::str::FromStr for $name {
            type Err = Malformed;

            fn from_str(text: &str) -> Result<Self, Malformed> {
                $name::parse(text)
            }
        }
    };
}

/// A bare JID in normal form: `local@domain`, or `domain`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct BareJid(Box<str>);

as_text!(BareJid);

impl BareJid {
    /// Reads an address that has no resourcepart; one that has is [`Malformed::NotBare`].
    pub fn parse(text: &str) -> Result<BareJid, Malformed> {
        match Jid::parse(text)? {
            jid if jid.is_full() => Err(Malformed::NotBare),
            jid => Ok(BareJid(jid.text.into())),
        }
    }

    /// Puts an address together from parts as a user wrote them.
    pub fn from_parts(local: Option<&str>, domain: &str) -> Result<BareJid, Malformed> {
        let local = local.map(localpart).transpose()?;
        Ok(BareJid(Jid::join(None, local, domainpart(domain)?, None)?.text.into()))
    }

    /// The localpart, if there is one.
    pub fn local(&self) -> Option<&str> {
        self.0.split_once('@').map(|(local, _)| local)
    }

    /// The domainpart.
    pub fn domain(&self) -> &str {
        self.0.split_once('@').map_or(&*self.0, |(_, domain)| domain)
    }

    /// The full JID with this resourcepart.
    pub fn with_resource(&self, resource: &str) -> Result<FullJid, Malformed> {
        Ok(FullJid(format!("{}/{}", self.0, resourcepart(resource)?).into()))
    }

    /// A view of this address.
    pub fn as_jid(&self) -> Jid<'_> {
        view(&self.0)
    }
}

/// A full JID in normal form: `local@domain/resource`, or `domain/resource`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct FullJid(Box<str>);

as_text!(FullJid);

impl FullJid {
    /// Reads an address that has a resourcepart; one that has none is [`Malformed::NotFull`].
    pub fn parse(text: &str) -> Result<FullJid, Malformed> {
        match Jid::parse(text)? {
            jid if jid.is_bare() => Err(Malformed::NotFull),
            jid => Ok(FullJid(jid.text.into())),
        }
    }

    /// The address without its resourcepart.
    pub fn bare(&self) -> &str {
        self.0.split_once('/').map_or(&*self.0, |(bare, _)| bare)
    }

    /// The resourcepart.
    pub fn resource(&self) -> &str {
        self.0.split_once('/').map_or("", |(_, resource)| resource)
    }

    /// The localpart, if there is one.
    pub fn local(&self) -> Option<&str> {
        self.bare().split_once('@').map(|(local, _)| local)
    }

    /// The domainpart.
    pub fn domain(&self) -> &str {
        let bare = self.bare();
        bare.split_once('@').map_or(bare, |(_, domain)| domain)
    }

    /// The address without its resourcepart.
    pub fn to_bare(&self) -> BareJid {
        BareJid(self.bare().into())
    }

    /// A view of this address.
    pub fn as_jid(&self) -> Jid<'_> {
        view(&self.0)
    }
}

/// A domainpart in normal form: what streams, peers and dialback call each other by.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Domain(Box<str>);

as_text!(Domain);

impl Domain {
    /// Reads a domainpart.
    pub fn parse(text: &str) -> Result<Domain, Malformed> {
        Ok(Domain(domainpart(text)?.into()))
    }
}

impl From<Domain> for BareJid {
    fn from(domain: Domain) -> BareJid {
        BareJid(domain.0)
    }
}

/// A view of text that is known to be in normal form.
fn view(text: &str) -> Jid<'_> {
    let place = |at: Option<usize>| at.and_then(|at| u16::try_from(at).ok()).unwrap_or(0);
    let slash = place(text.find('/'));
    let at = place(text.find(['@', '/']).filter(|&at| text.as_bytes().get(at) == Some(&b'@')));
    Jid { text: Cow::Borrowed(text), at, slash }
}

/// Brings a localpart into normal form (RFC 7622 §3.3): `UsernameCaseMapped`, less [`EXCLUDED`].
pub fn localpart(text: &str) -> Result<Cow<'_, str>, Malformed> {
    if text.is_empty() {
        return Err(Malformed::LocalEmpty);
    }
    if text.len() > PART_MAX {
        return Err(Malformed::LocalLength);
    }
    if all(text.as_bytes(), LOCAL) {
        return Ok(Cow::Borrowed(text));
    }
    let normal = match text.is_ascii() {
        true => Cow::Owned(text.to_ascii_lowercase()),
        false => settled(text, precis::username_case_mapped)?,
    };
    match normal.chars().find(|c| u8::try_from(*c).is_ok_and(|b| b.is_ascii() && class(b) & LOCAL == 0)) {
        Some(c) => Err(Malformed::LocalCharacter(c)),
        None if normal.len() > PART_MAX => Err(Malformed::LocalLength),
        None => Ok(normal),
    }
}

/// Brings a resourcepart into normal form (RFC 7622 §3.4): `OpaqueString`.
pub fn resourcepart(text: &str) -> Result<Cow<'_, str>, Malformed> {
    if text.is_empty() {
        return Err(Malformed::ResourceEmpty);
    }
    if text.len() > PART_MAX {
        return Err(Malformed::ResourceLength);
    }
    if all(text.as_bytes(), RESOURCE) {
        return Ok(Cow::Borrowed(text));
    }
    if let Some(control) = text.chars().find(char::is_ascii_control) {
        return Err(Malformed::ResourceCharacter(control));
    }
    let normal = match text.is_ascii() {
        true => Cow::Borrowed(text),
        false => settled(text, precis::opaque_string)?,
    };
    match normal.len() > PART_MAX {
        true => Err(Malformed::ResourceLength),
        false => Ok(normal),
    }
}

/// Brings a domainpart into normal form (RFC 7622 §3.2): an IP address, or a name in U-labels.
///
/// Underscores pass although host names have none, because machines on a LAN are called that way.
pub fn domainpart(text: &str) -> Result<Cow<'_, str>, Malformed> {
    if text.len() > PART_MAX {
        return Err(Malformed::DomainLength);
    }
    if is_host(text) {
        return Ok(Cow::Borrowed(text));
    }
    let normal = if !text.is_ascii() {
        internationalised(text)?
    } else {
        // RFC 7622 §3.2: a final dot is stripped before anything else is done with the name.
        let name = text.strip_suffix('.').unwrap_or(text);
        if let Some(address) = name.strip_prefix('[') {
            match ip_literal(address)? {
                normal if normal == name => Cow::Borrowed(name),
                normal => Cow::Owned(normal),
            }
        } else if is_host(name) {
            Cow::Borrowed(name)
        } else {
            let name = name.to_ascii_lowercase();
            match is_host(&name) {
                true => Cow::Owned(name),
                false => Cow::Owned(internationalised(&name)?.into_owned()),
            }
        }
    };
    match normal.len() > PART_MAX {
        true => Err(Malformed::DomainLength),
        false => Ok(normal),
    }
}

/// ASCII that stands for itself in a localpart: `IdentifierClass` without upper case and without
/// ``" & ' / : < > @`` (RFC 7622 §3.3.1).
const LOCAL: u8 = 1;
/// ASCII that stands for itself in a resourcepart.
const RESOURCE: u8 = 2;
/// ASCII that stands for itself in a host name, wherever in a label it is.
const HOST: u8 = 4;
/// What ends a localpart or a domainpart: `@` and `/`.
const SEPARATOR: u8 = 8;

/// The classes of all bytes.
static CLASSES: [u8; 256] = {
    let mut classes = [0; 256];
    let mut rest: &mut [u8] = &mut classes;
    let mut b = 0u8;
    while let Some((class, after)) = rest.split_first_mut() {
        if matches!(b, b'!' | b'#'..=b'%' | b'('..=b'.' | b'0'..=b'9' | b';' | b'=' | b'?' | b'['..=b'~') {
            *class |= LOCAL;
        }
        if matches!(b, b' '..=b'~') {
            *class |= RESOURCE;
        }
        if matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'_') {
            *class |= HOST;
        }
        if matches!(b, b'@' | b'/') {
            *class |= SEPARATOR;
        }
        b = b.wrapping_add(1);
        rest = after;
    }
    classes
};

/// The classes of a byte.
fn class(b: u8) -> u8 {
    CLASSES.get(usize::from(b)).copied().unwrap_or(0)
}

/// Whether all bytes are of a class.
fn all(bytes: &[u8], wanted: u8) -> bool {
    bytes.iter().fold(wanted, |common, b| common & class(*b)) != 0
}

/// Where `@` and `/` are in an address that is ASCII and in normal form; 0 for one it has not.
///
/// This is asked for every stanza. `None` says nothing but that somebody must look more closely.
fn plain(text: &[u8]) -> Option<(u16, u16)> {
    let mut common = LOCAL;
    let mut at = 0;
    let mut rest = text;
    for (place, b) in text.iter().enumerate() {
        let class = class(*b);
        if class & SEPARATOR != 0 {
            if *b == b'@' {
                if common == 0 || !matches!(place, 1..=PART_MAX) {
                    return None;
                }
                at = place;
                rest = text.split_at_checked(place)?.1.split_first()?.1;
            }
            break;
        }
        common &= class;
    }
    let domain = host(rest).filter(|length| *length <= PART_MAX)?;
    let Some((b'/', resource)) = rest.split_at_checked(domain)?.1.split_first() else {
        return Some((u16::try_from(at).ok()?, 0));
    };
    if !matches!(resource.len(), 1..=PART_MAX) || !all(resource, RESOURCE) {
        return None;
    }
    let slash = text.len().checked_sub(resource.len())?.checked_sub(1)?;
    Some((u16::try_from(at).ok()?, u16::try_from(slash).ok()?))
}

/// Whether this is a host name that is ASCII and in normal form.
fn is_host(text: &str) -> bool {
    host(text.as_bytes()) == Some(text.len())
}

/// The length of the host name, ASCII and in normal form, that ends at a `/` or at the end.
fn host(text: &[u8]) -> Option<usize> {
    // Where the label starts, and the byte before this one.
    let (mut start, mut last) = (0, b'.');
    let ends = |start: usize, end: usize, last: u8| {
        last != b'-' && matches!(end.saturating_sub(start), 1..=LABEL_MAX)
    };
    for (at, &b) in text.iter().enumerate() {
        if class(b) & HOST == 0 {
            match b {
                b'.' if ends(start, at, last) => start = at.saturating_add(1),
                b'-' if last != b'.' => {
                    // A-labels are for IDNA to read.
                    if last == b'-' && text.get(start..at) == Some(b"xn-") {
                        return None;
                    }
                }
                b'/' => return ends(start, at, last).then_some(at),
                _ => return None,
            }
        }
        last = b;
    }
    ends(start, text.len(), last).then_some(text.len())
}

/// `[…]` without its `[`, in the form of RFC 5952. Zones (`%eth0`) mean nothing to the other end.
fn ip_literal(text: &str) -> Result<String, Malformed> {
    let address = text.strip_suffix(']').and_then(|text| text.parse::<Ipv6Addr>().ok());
    address.map(|address| format!("[{address}]")).ok_or(Malformed::DomainAddress)
}

/// A name that is not plain ASCII, or that has `xn--` labels, or that is no name at all.
fn internationalised(text: &str) -> Result<Cow<'_, str>, Malformed> {
    /// All of ASCII but letters, digits, hyphen, dot, and the underscore.
    const DENIED: AsciiDenyList = AsciiDenyList::new(true, "!\"#$%&'()*+,/:;<=>?@[\\]^`{|}~");
    let once = |text: &str| match Uts46::new().to_unicode(text.as_bytes(), DENIED, Hyphens::CheckFirstLast) {
        (name, Ok(())) => Ok(name.into_owned()),
        (_, Err(_)) => Err(Malformed::DomainName),
    };
    let mut name = once(text)?;
    // The ideographic full stop and its like are dots by now.
    if !text.is_ascii() && name.ends_with('.') {
        name.pop();
    }
    if name.is_empty() {
        return Err(Malformed::DomainEmpty);
    }
    // Before `to_ascii`, whose cost grows with the square of a label.
    let fits = |label: &str| !label.is_empty() && label.chars().count() <= LABEL_MAX;
    if !name.split('.').all(fits) {
        return Err(Malformed::DomainLabel);
    }
    let ascii = Uts46::new()
        .to_ascii(name.as_bytes(), DENIED, Hyphens::CheckFirstLast, idna::uts46::DnsLength::Ignore)
        .map_err(|_| Malformed::DomainName)?;
    if ascii.split('.').any(|label| label.len() > LABEL_MAX) {
        return Err(Malformed::DomainLabel);
    }
    if name.split('.').any(|label| label.starts_with("xn--")) {
        return Err(Malformed::DomainName);
    }
    if name == text {
        return Ok(Cow::Borrowed(text));
    }
    // Whatever the tables say, a name that is another name the second time is nobody's.
    match once(&name)? == name {
        true => Ok(Cow::Owned(name)),
        false => Err(Malformed::Unsettled),
    }
}

/// One application of a profile.
type Profile = fn(&str) -> Result<String, Malformed>;

/// Applies a profile until the text stays as it is (RFC 8264 §7: at most three times more).
fn settled(text: &str, profile: Profile) -> Result<Cow<'_, str>, Malformed> {
    let mut now = profile(text)?;
    if now == text {
        return Ok(Cow::Borrowed(text));
    }
    for _ in 0..3 {
        let next = profile(&now)?;
        if next == now {
            return Ok(Cow::Owned(now));
        }
        now = next;
    }
    Err(Malformed::Unsettled)
}

/// Why a text is no address. For the wire all of it is `<jid-malformed/>`; this is for a person.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Malformed {
    /// Nothing before the `@`.
    LocalEmpty,
    /// The localpart is too long.
    LocalLength,
    /// A character that a localpart cannot have, as written or once mapped.
    LocalCharacter(char),
    /// A localpart that breaks the rules on mixing writing directions (RFC 5893).
    LocalName,
    /// No domainpart.
    DomainEmpty,
    /// The domainpart is too long.
    DomainLength,
    /// An empty label, or one that is too long.
    DomainLabel,
    /// An address in brackets that is no IPv6 address.
    DomainAddress,
    /// A name that IDNA refuses.
    DomainName,
    /// Nothing after the `/`.
    ResourceEmpty,
    /// The resourcepart is too long.
    ResourceLength,
    /// A character that a resourcepart cannot have.
    ResourceCharacter(char),
    /// A text that is another one each time it is normalised (RFC 8264 §7).
    Unsettled,
    /// A resourcepart where there may be none.
    NotBare,
    /// No resourcepart where there must be one.
    NotFull,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Characters are named by number: they may be invisible, or move the cursor.
        match self {
            Malformed::LocalEmpty => f.write_str("there is nothing before the \"@\""),
            Malformed::LocalLength => write!(f, "the part before the \"@\" is over {PART_MAX} bytes long"),
            Malformed::LocalCharacter(c) => {
                write!(f, "U+{:04X} cannot stand before the \"@\"", u32::from(*c))
            }
            Malformed::LocalName => f.write_str("the part before the \"@\" mixes writing directions"),
            Malformed::DomainEmpty => f.write_str("there is no domain"),
            Malformed::DomainLength => write!(f, "the domain is over {PART_MAX} bytes long"),
            Malformed::DomainLabel => {
                write!(f, "the domain has a part between dots that is empty or over {LABEL_MAX} bytes long")
            }
            Malformed::DomainAddress => f.write_str("what stands in brackets is not an IPv6 address"),
            Malformed::DomainName => f.write_str("the domain is not a valid domain name"),
            Malformed::ResourceEmpty => f.write_str("there is nothing after the \"/\""),
            Malformed::ResourceLength => write!(f, "the part after the \"/\" is over {PART_MAX} bytes long"),
            Malformed::ResourceCharacter(c) => {
                write!(f, "U+{:04X} cannot stand after the \"/\"", u32::from(*c))
            }
            Malformed::Unsettled => f.write_str("the address has no normal form"),
            Malformed::NotBare => f.write_str("there must be no \"/\" in this address"),
            Malformed::NotFull => f.write_str("this address needs a \"/\" and a resource after it"),
        }
    }
}

impl std::error::Error for Malformed {}

#[cfg(test)]
mod tests;
