//! The ladder of trust between servers: a pinned key; else an authority and a name (RFC 6120 §13.7.2,
//! XEP-0178); else dialback (XEP-0220) where it is allowed; else nobody.
//!
//! Pure: what a certificate is worth is asked of the caller, and only if the answer counts.

use std::fmt;
use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// A pin: SHA-256 of a certificate's SubjectPublicKeyInfo (as in RFC 7469 §2.4).
pub type Pin = [u8; 32];

/// `sha256:` and base64, as `--pin` takes it.
pub fn pin_text(pin: &Pin) -> String {
    format!("sha256:{}", STANDARD.encode(pin))
}

/// The rungs, worst first: `Dialback < Ca < Pinned`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rung {
    /// No certificate proves the domain; a connection to where DNS says it is does (XEP-0220).
    Dialback,
    /// An authority that we trust has signed a certificate for the domain (XEP-0178).
    Ca,
    /// The key is the one that a person has compared.
    Pinned,
}

impl Rung {
    /// The best first, as the ladder is climbed down.
    pub const ALL: [Rung; 3] = [Rung::Pinned, Rung::Ca, Rung::Dialback];

    /// The word for `--s2s-trust` and for lists.
    pub const fn name(self) -> &'static str {
        match self {
            Rung::Pinned => "pinned",
            Rung::Ca => "ca",
            Rung::Dialback => "dialback",
        }
    }
}

impl fmt::Display for Rung {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Not the name of a rung.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownRung;

impl fmt::Display for UnknownRung {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the rungs of trust are pinned, ca and dialback")
    }
}

impl std::error::Error for UnknownRung {}

impl FromStr for Rung {
    type Err = UnknownRung;

    fn from_str(text: &str) -> Result<Rung, UnknownRung> {
        Rung::ALL.into_iter().find(|rung| rung.name() == text).ok_or(UnknownRung)
    }
}

/// What is asked of one peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ladder {
    /// The lowest rung that is accepted (`--s2s-trust`).
    pub lowest: Rung,
    /// The key on record for this domain. With one, no other rung counts.
    pub pin: Option<Pin>,
}

impl Ladder {
    /// The same for whoever answers where a domain was only seen on the local network. There anybody can say that
    /// it is any domain, so that the way to it proves nothing, and a rung that rests on the way is none (threats D4, I1).
    pub fn of_a_hint(self) -> Ladder {
        Ladder { lowest: self.lowest.max(Rung::Ca), ..self }
    }
}

/// How far up the peer came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trusted {
    /// It holds the pinned key.
    Pinned,
    /// An authority vouches for it.
    Ca,
    /// Nothing is proven yet: dialback has to do it (XEP-0220).
    Dialback,
}

impl Trusted {
    /// The rung that it stands on.
    pub const fn rung(self) -> Rung {
        match self {
            Trusted::Pinned => Rung::Pinned,
            Trusted::Ca => Rung::Ca,
            Trusted::Dialback => Rung::Dialback,
        }
    }

    /// What it is known by, for a sentence.
    pub const fn words(self) -> &'static str {
        match self {
            Trusted::Pinned => "its pinned key",
            Trusted::Ca => "its certificate",
            Trusted::Dialback => "dialback only",
        }
    }

    /// Whether the certificate has proven the domain, so that SASL EXTERNAL may be offered and
    /// accepted (XEP-0178 §3).
    pub const fn proven(self) -> bool {
        !matches!(self, Trusted::Dialback)
    }

    /// Whether what was found a while ago stands before what would be found now: another key may be on record
    /// since, or none (threats I6). What dialback has proven needs dialback to be good enough.
    pub const fn stands(self, now: &Result<Trusted, Distrust>) -> bool {
        match now {
            Ok(now) => now.proven() || !self.proven(),
            Err(_) => false,
        }
    }
}

/// No rung held. Says which was the last, and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Distrust {
    /// The rung that failed.
    pub rung: Rung,
    /// Why.
    pub why: Why,
    /// Whom it is about, if [`Distrust::of`] has said so.
    domain: Option<Box<str>>,
}

/// Why a rung did not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Why {
    /// Not the pinned key (threats I6).
    KeyChanged {
        /// The key on record.
        was: Pin,
        /// The key that was shown.
        is: Pin,
    },
    /// A key is pinned, and none was shown.
    KeyMissing {
        /// The key on record.
        was: Pin,
    },
    /// Only pinned keys are accepted, and none is on record.
    NotPinned {
        /// The key that was shown.
        is: Option<Pin>,
    },
    /// A certificate is asked for, and none was shown.
    NoCertificate,
    /// The certificate is not good enough, in words of whoever looked at it.
    Certificate(String),
}

impl Distrust {
    fn new(rung: Rung, why: Why) -> Distrust {
        Distrust { rung, why, domain: None }
    }

    /// The same, with the domain in what it tells people to type.
    pub fn of(mut self, domain: &str) -> Distrust {
        // What is no plain name is not put before somebody who might copy it into a shell.
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_' | b':' | b'[' | b']');
        if domain.bytes().all(plain) && !domain.is_empty() && domain.len() <= 255 {
            self.domain = Some(domain.into());
        }
        self
    }
}

/// Whether a domain is one of the local network's: two people can compare there (RFC 6762 §3).
pub fn is_nearby(domain: &str) -> bool {
    domain.ends_with(".local")
}

impl fmt::Display for Distrust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let domain = self.domain.as_deref().unwrap_or("DOMAIN");
        match &self.why {
            Why::KeyChanged { was, is } => write!(
                f,
                "pinned: the pinned key has changed: was {}, is {}; if the people there say that they have a new one: \
                 stonechat peer repair {domain}, then pair with it again, or take the key over by hand (peer add)",
                pin_text(was),
                pin_text(is),
            ),
            Why::KeyMissing { was } => write!(
                f,
                "pinned: no certificate was shown, and the key {} is pinned; the other side must show its certificate in TLS",
                pin_text(was)
            ),
            Why::NotPinned { is: Some(_) } if is_nearby(domain) => write!(
                f,
                "pinned: only pinned keys are accepted here (--s2s-trust pinned), and none is on record; if that is {domain}: \
                 stonechat peer pair {domain}",
            ),
            Why::NotPinned { is: Some(is) } => write!(
                f,
                "pinned: only pinned keys are accepted here (--s2s-trust pinned), and none is on record; if {} is its key: \
                 stonechat peer add {domain} --pin {}",
                pin_text(is),
                pin_text(is)
            ),
            Why::NotPinned { is: None } => write!(
                f,
                "pinned: only pinned keys are accepted here (--s2s-trust pinned), and no certificate was shown; the other \
                 side must show its certificate in TLS"
            ),
            Why::NoCertificate => write!(
                f,
                "{}: no certificate was shown; the other side must show its certificate in TLS, also where it is the one \
                 that connects",
                self.rung
            ),
            Why::Certificate(why) => write!(f, "{}: {why}", self.rung),
        }
    }
}

impl std::error::Error for Distrust {}

/// Climbs down from the best rung until one holds. `presented` is the pin of the key that has signed
/// the handshake; `ca` says whether its certificate is good for the domain, and is asked only if that
/// counts.
///
/// A pin is the end of the matter, either way: what a person has compared needs no names and dates, and
/// another key in its place is what pins are there against (threats I6), whoever has signed it.
pub fn climb(
    ladder: &Ladder,
    presented: Option<Pin>,
    ca: impl FnOnce() -> Result<(), String>,
) -> Result<Trusted, Distrust> {
    match (ladder.pin, presented) {
        (Some(was), Some(is)) if was == is => return Ok(Trusted::Pinned),
        (Some(was), Some(is)) => return Err(Distrust::new(Rung::Pinned, Why::KeyChanged { was, is })),
        (Some(was), None) => return Err(Distrust::new(Rung::Pinned, Why::KeyMissing { was })),
        (None, is) if ladder.lowest == Rung::Pinned => {
            return Err(Distrust::new(Rung::Pinned, Why::NotPinned { is }));
        }
        (None, _) => {}
    }
    let why = match presented.map(|_| ca()) {
        Some(Ok(())) => return Ok(Trusted::Ca),
        Some(Err(why)) => Why::Certificate(why),
        None => Why::NoCertificate,
    };
    match ladder.lowest {
        Rung::Dialback => Ok(Trusted::Dialback),
        Rung::Ca | Rung::Pinned => Err(Distrust::new(Rung::Ca, why)),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;

    const OURS: Pin = [1; 32];
    const OTHER: Pin = [2; 32];

    /// Every lowest rung × pin on record × key shown × verdict on the certificate.
    #[test]
    fn the_whole_matrix() {
        let mut seen = 0;
        for lowest in Rung::ALL {
            for pin in [None, Some(OURS)] {
                for shown in [None, Some(OURS), Some(OTHER)] {
                    for good in [true, false] {
                        let mut asked = false;
                        let verdict = climb(&Ladder { lowest, pin }, shown, || {
                            asked = true;
                            if good { Ok(()) } else { Err("unknown issuer".to_owned()) }
                        });
                        let fails = |rung, why| Err(Distrust { rung, why, domain: None });
                        let expected = match (pin, shown, lowest) {
                            (Some(_), Some(OURS), _) => Ok(Trusted::Pinned),
                            (Some(was), Some(is), _) => fails(Rung::Pinned, Why::KeyChanged { was, is }),
                            (Some(was), None, _) => fails(Rung::Pinned, Why::KeyMissing { was }),
                            (None, is, Rung::Pinned) => fails(Rung::Pinned, Why::NotPinned { is }),
                            (None, Some(_), _) if good => Ok(Trusted::Ca),
                            (None, _, Rung::Dialback) => Ok(Trusted::Dialback),
                            (None, Some(_), Rung::Ca) => {
                                fails(Rung::Ca, Why::Certificate("unknown issuer".to_owned()))
                            }
                            (None, None, Rung::Ca) => fails(Rung::Ca, Why::NoCertificate),
                        };
                        assert_eq!(verdict, expected, "{lowest} {pin:?} {shown:?} {good}");
                        let counts = pin.is_none() && shown.is_some() && lowest != Rung::Pinned;
                        assert_eq!(asked, counts, "asked only where it counts");
                        if let Ok(trusted) = verdict {
                            assert!(trusted.rung() >= lowest, "never below what was asked for");
                            assert_eq!(trusted.proven(), trusted != Trusted::Dialback);
                        }
                        seen += 1;
                    }
                }
            }
        }
        assert_eq!(seen, 36);
    }

    #[test]
    fn i6_a_changed_key_is_refused_whatever_else_is_good() {
        let ladder = Ladder { lowest: Rung::Dialback, pin: Some(OURS) };
        let why = climb(&ladder, Some(OTHER), || Ok(())).unwrap_err().of("peer.test");
        let text = why.to_string();
        assert!(text.starts_with("pinned: the pinned key has changed: was sha256:AQEB"), "{text}");
        assert!(
            text.contains("stonechat peer repair peer.test") && text.contains("is sha256:AgIC"),
            "{text}"
        );
        assert!(climb(&ladder, None, || Ok(())).is_err(), "no key is not a way around either");
    }

    #[test]
    fn i1_where_anybody_can_answer_the_way_proves_nothing() {
        let none = || Err("unknown issuer".to_owned());
        for lowest in Rung::ALL {
            let ladder = Ladder { lowest, pin: None }.of_a_hint();
            assert!(climb(&ladder, Some(OTHER), none).is_err(), "{lowest}");
            assert!(climb(&ladder, None, none).is_err(), "{lowest}");
            assert_eq!(climb(&ladder, Some(OTHER), || Ok(())).is_ok(), lowest != Rung::Pinned);
            let pinned = Ladder { lowest, pin: Some(OURS) }.of_a_hint();
            assert_eq!(climb(&pinned, Some(OURS), none), Ok(Trusted::Pinned));
            assert!(climb(&pinned, Some(OTHER), || Ok(())).is_err());
        }
    }

    #[test]
    fn i6_what_was_found_before_the_record_changed_does_not_stand() {
        let now = |pin, lowest, good: bool| {
            let ca = || if good { Ok(()) } else { Err("unknown issuer".to_owned()) };
            climb(&Ladder { lowest, pin }, Some(OURS), ca)
        };
        use Rung::{Ca, Dialback, Pinned};
        for (found, pin, lowest, good, stands) in [
            (Trusted::Pinned, Some(OURS), Pinned, false, true),
            (Trusted::Pinned, Some(OTHER), Dialback, true, false), // another key was pinned
            (Trusted::Pinned, None, Ca, false, false),             // forgotten
            (Trusted::Pinned, None, Dialback, false, false),       // dialback is still to come
            (Trusted::Pinned, None, Ca, true, true),
            (Trusted::Ca, Some(OTHER), Ca, true, false),
            (Trusted::Ca, Some(OURS), Ca, false, true),
            (Trusted::Dialback, None, Dialback, false, true),
            (Trusted::Dialback, Some(OTHER), Dialback, true, false), // pinned while the call was under way
            (Trusted::Dialback, Some(OURS), Dialback, false, true),
            (Trusted::Dialback, None, Ca, false, false),
        ] {
            assert_eq!(found.stands(&now(pin, lowest, good)), stands, "{found:?} {pin:?} {lowest} {good}");
        }
    }

    #[test]
    fn what_people_read_is_one_plain_line() {
        let whys = [
            Why::KeyChanged { was: OURS, is: OTHER },
            Why::KeyMissing { was: OURS },
            Why::NotPinned { is: Some(OTHER) },
            Why::NotPinned { is: None },
            Why::NoCertificate,
            Why::Certificate("expired".to_owned()),
        ];
        for why in whys {
            let text = Distrust::new(Rung::Ca, why).to_string();
            assert!(!text.contains(char::is_control) && !text.contains("  "), "{text}");
            assert!(text.contains(": "), "{text}");
        }
        let new = || Distrust::new(Rung::Pinned, Why::NotPinned { is: Some(OURS) });
        for evil in ["", "a;rm -rf /", "a b", "$(x)", "ü.test"] {
            assert!(new().of(evil).to_string().contains("peer add DOMAIN --pin"), "{evil}");
        }
        let nearby = new().of("boat.local").to_string();
        assert!(nearby.ends_with("if that is boat.local: stonechat peer pair boat.local"), "{nearby}");
        assert!(new().of("[::1]").to_string().contains("peer add [::1] --pin"));
    }

    #[test]
    fn words() {
        for rung in Rung::ALL {
            assert_eq!(rung.to_string().parse(), Ok(rung));
        }
        for no in ["", "CA", "pin", "none", "dialback "] {
            assert_eq!(no.parse::<Rung>(), Err(UnknownRung));
        }
        assert!(Rung::Pinned > Rung::Ca && Rung::Ca > Rung::Dialback);
        assert_eq!(format!("{:9}|", Rung::Ca), "ca       |");
    }
}
