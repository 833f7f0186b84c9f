//! Orders about other domains and components. What is written down takes effect at once.

use super::{Desk, Outcome, Standing, UNKNOWN, failed};
use crate::net::cert;
use crate::net::peers::{self, Link, PeerState, Peers};
use crate::store::change::{Answer, Ask, Change, PeerRecord, PeerSource};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use std::collections::BTreeMap;

/// A secret that a person makes up is worth a word below this length.
const SHORT: usize = 16;
/// No secret is longer.
const LONG: usize = 1024;

impl Desk {
    /// An order about peers or components.
    pub(in crate::net) async fn carry_out_abroad(&self, words: &[&str]) -> Outcome {
        match words {
            ["peer", "add", domain, address, pin] => self.peer_add(domain, address, pin).await,
            ["peer", "list"] => self.peer_list().await,
            ["peer", "key"] => self.peer_key(),
            ["peer", "remove", domain] => self.peer_remove(domain).await,
            ["peer", "repair", domain] => self.peer_repair(domain).await,
            ["peer", "pair", domain] => self.peer_pair(domain).await,
            ["peer", "accept", domain, code] => self.peer_accept(domain, code).await,
            ["component", "add", domain, secret] => self.component_add(domain, secret).await,
            ["component", "list"] => self.component_list().await,
            ["component", "remove", domain] => self.component_remove(domain).await,
            _ => Err(UNKNOWN.into()),
        }
    }

    /// How the links are doing.
    pub(in crate::net) async fn standing(&self) -> Result<Standing, String> {
        let all = self.states().await?;
        let are = |link| all.values().filter(|peer| peer.state == link).count();
        let (up, down) = (are(Link::Up), are(Link::Waiting));
        Ok(Standing {
            up,
            down,
            each: all.iter().map(|(domain, peer)| (domain.clone(), peer.words())).collect(),
        })
    }

    async fn write(&self, change: Change) -> Result<(), String> {
        match self.ask(vec![change], Ask::Nothing).await {
            Answer::Nothing => Ok(()),
            other => Err(failed(other)),
        }
    }

    /// A domain that is not ours, in normal form.
    fn foreign(&self, text: &str) -> Result<Box<str>, String> {
        let domain = crate::jid::domainpart(text).map_err(|e| {
            let part = if text.contains(['@', '/']) { "; only the part behind the @ is one" } else { "" };
            format!("{text:?} is no domain: {e}{part}")
        })?;
        match self.with_hub(|hub, _| hub.is_local(&domain)) {
            true => Err(format!("{domain} is this hub itself")),
            false => Ok(domain.into()),
        }
    }

    async fn record(&self, domain: &str) -> Result<Option<PeerRecord>, String> {
        match self.ask(Vec::new(), Ask::Peers).await {
            Answer::Peers(all) => Ok(all.into_iter().find(|peer| *peer.domain == *domain)),
            other => Err(failed(other)),
        }
    }

    async fn secret(&self, domain: &str) -> Result<Option<Box<str>>, String> {
        match self.ask(Vec::new(), Ask::Components).await {
            Answer::Components(all) => {
                Ok(all.into_iter().find(|(name, _)| **name == *domain).map(|(_, secret)| secret))
            }
            other => Err(failed(other)),
        }
    }

    /// Writes the record, and lets the hub act on it.
    async fn settle(&self, record: PeerRecord) -> Result<(), String> {
        self.write(Change::PeerPut { peer: record.clone() }).await?;
        if let Desk::Hub(shared) = self {
            let domain = record.domain.clone();
            shared.federation.peers.borrow_mut().put(record);
            peers::changed(shared, &domain);
        }
        Ok(())
    }

    /// Empty words: not said. What is not said stays as it is.
    async fn peer_add(&self, domain: &str, address: &str, pin: &str) -> Outcome {
        let domain = self.foreign(domain)?;
        if self.secret(&domain).await?.is_some() {
            return Err(format!("{domain} is a component of this hub; it needs no peer"));
        }
        if !address.is_empty() && peers::host_port(address).is_none() {
            return Err(format!(
                "{address:?} is no address; one looks like boat.local:5269, 10.0.0.7:5269 or [fd00::7]:5269"
            ));
        }
        let pin = match pin {
            "" => None,
            pin => Some(
                cert::parse_pin(pin)
                    .ok_or("a pin looks like sha256:…; stonechat peer key shows it at the other hub")?,
            ),
        };
        let before = self.record(&domain).await?;
        let was = before.as_ref().and_then(|record| record.pin);
        let known = before.is_some();
        let mut record = before.unwrap_or_else(|| PeerRecord {
            domain: domain.clone(),
            source: PeerSource::Said,
            added: self.now().unix(),
            ..PeerRecord::default()
        });
        record.denied = false;
        if !address.is_empty() {
            record.address = Some(address.into());
        }
        if pin.is_some() {
            (record.pin, record.source) = (pin, PeerSource::Said);
        }
        self.settle(record).await?;
        let mut text = format!("{} {domain}", if known { "changed" } else { "added" });
        if let Desk::Hub(shared) = self {
            text.push_str(shared.with_hub(|hub, _| {
                match (hub.peers.federation, hub.peers.permits(&domain)) {
                    (false, _) => "; but this hub runs with --no-s2s",
                    (true, false) => "; but --peer-allow or --peer-deny of this hub keeps it out",
                    (true, true) => "",
                }
            }));
        }
        match (was, pin) {
            (Some(was), Some(pin)) if was != pin => {
                text.push_str(&format!("; the new key takes the place of {}", cert::pin_text(&was)));
            }
            _ => {}
        }
        Ok(text)
    }

    async fn peer_remove(&self, domain: &str) -> Outcome {
        let domain = self.foreign(domain)?;
        if self.record(&domain).await?.is_none() {
            return Err(format!("nothing is kept of {domain}; stonechat peer list shows the others"));
        }
        self.write(Change::PeerRemove { domain: domain.clone() }).await?;
        if let Desk::Hub(shared) = self {
            shared.federation.peers.borrow_mut().remove(&domain);
            peers::changed(shared, &domain);
        }
        let queued = self.states().await?.get(&domain).map_or(0, |state| state.queued);
        let rest = match queued {
            0 => String::new(),
            n => format!("; messages that wait for it: {n}, for as long as they may"),
        };
        Ok(format!("removed {domain}{rest}"))
    }

    async fn peer_repair(&self, domain: &str) -> Outcome {
        let domain = self.foreign(domain)?;
        let Some(record) = self.record(&domain).await? else {
            return Err(format!("nothing is kept of {domain}; stonechat peer list shows the others"));
        };
        let Some(pin) = record.pin else {
            return Err(format!("no key of {domain} is pinned; stonechat peer pair {domain} may begin"));
        };
        self.settle(PeerRecord { pin: None, ..record }).await?;
        Ok(format!(
            "forgot the key {} of {domain}; now stonechat peer pair {domain}, or stonechat peer add {domain} --pin with the new one",
            cert::pin_text(&pin)
        ))
    }

    async fn peer_pair(&self, domain: &str) -> Outcome {
        let Desk::Hub(shared) = self else { return Err(NEEDS_HUB.into()) };
        let domain = if domain.is_empty() { None } else { Some(self.foreign(domain)?) };
        if let Some(domain) = &domain {
            self.may_pair(domain).await?;
        }
        peers::pair(shared, domain.as_deref()).await
    }

    async fn peer_accept(&self, domain: &str, code: &str) -> Outcome {
        let Desk::Hub(shared) = self else { return Err(NEEDS_HUB.into()) };
        let domain = self.foreign(domain)?;
        let before = self.may_pair(&domain).await?;
        let pin = peers::accept(shared, &domain, Some(code).filter(|code| !code.is_empty()))?;
        let mut record = before.unwrap_or_else(|| PeerRecord {
            domain: domain.clone(),
            added: self.now().unix(),
            ..PeerRecord::default()
        });
        (record.pin, record.source, record.denied) = (Some(pin), PeerSource::Paired, false);
        self.settle(record).await?;
        Ok(format!(
            "paired: the key of {domain} is {} from now on; no other is accepted",
            cert::pin_text(&pin)
        ))
    }

    /// The record of a domain whose key is not known yet. One that is known changes only by `peer repair`
    /// (threats I6).
    async fn may_pair(&self, domain: &str) -> Result<Option<PeerRecord>, String> {
        if self.secret(domain).await?.is_some() {
            return Err(format!("{domain} is a component of this hub; it needs no peer"));
        }
        let record = self.record(domain).await?;
        match record.as_ref().and_then(|record| record.pin) {
            Some(pin) => Err(format!(
                "the key of {domain} is known, it is {}; if it has another now, or has to compare once more, stonechat peer repair {domain} comes first",
                cert::pin_text(&pin)
            )),
            None => Ok(record),
        }
    }

    /// All that is known of other domains.
    async fn states(&self) -> Result<BTreeMap<Box<str>, PeerState>, String> {
        let shared = match self {
            Desk::Hub(shared) => shared,
            Desk::Data(data) => {
                let waiting = match data.store.ask(Vec::new(), Ask::Forwards) {
                    Answer::Forwards(waiting) => waiting,
                    other => return Err(failed(other)),
                };
                return Ok(peers::states(&Peers::load(&data.store)?, None, &waiting, &[]));
            }
        };
        // The hub knows what waits.
        let seen = peers::seen(shared);
        let peers = shared.federation.peers.borrow();
        Ok(shared.with_hub(|hub, _| peers::states(&peers, Some(hub), &[], &seen)))
    }

    /// One line for each domain; see [`PeerState::line`].
    async fn peer_list(&self) -> Outcome {
        let now = self.now().unix();
        Ok(self.states().await?.values().map(|state| state.line(now) + "\n").collect())
    }

    /// Our domain, and the key that another hub is to pin.
    fn peer_key(&self) -> Outcome {
        let own = match self {
            Desk::Hub(shared) => shared.federation.peers.borrow().own,
            Desk::Data(_) => None,
        };
        let pin = own.ok_or("the key is shown by a running hub: stonechat serve")?;
        Ok(format!("{}\t{}", self.domain(), cert::pin_text(&pin)))
    }

    /// An empty secret: the hub makes one, and the answer is the secret.
    async fn component_add(&self, domain: &str, secret: &str) -> Outcome {
        let domain = self.foreign(domain)?;
        if self.record(&domain).await?.is_some() {
            return Err(format!("{domain} is a peer; stonechat peer remove {domain} comes first"));
        }
        if secret.len() > LONG || secret.contains(char::is_control) {
            return Err(format!("a secret is one line of at most {LONG} bytes"));
        }
        let known = self.secret(&domain).await?.is_some();
        let made = match secret {
            "" => Some(URL_SAFE_NO_PAD.encode(crate::net::random::<24>())),
            _ => None,
        };
        let kept: Box<str> = made.as_deref().unwrap_or(secret).into();
        self.write(Change::ComponentPut { domain: domain.clone(), secret: kept.clone() }).await?;
        if let Desk::Hub(shared) = self {
            shared.federation.peers.borrow_mut().components.insert(domain.clone(), kept);
            peers::component_changed(shared, &domain);
        }
        let verb = if known { "new secret for" } else { "added" };
        let deaf = match self {
            Desk::Hub(shared) if !shared.federation.peers.borrow().listens => {
                "; this hub listens for no components yet: stonechat serve --component 127.0.0.1:5347"
            }
            _ => "",
        };
        Ok(match made {
            Some(made) => format!("{made}\n{verb} {domain}{deaf}"),
            None if secret.len() < SHORT => {
                format!("\n{verb} {domain}; its secret is short and may be guessed{deaf}")
            }
            None => format!("\n{verb} {domain}{deaf}"),
        })
    }

    /// Domain and whether it is attached.
    async fn component_list(&self) -> Outcome {
        let all = match self.ask(Vec::new(), Ask::Components).await {
            Answer::Components(all) => all,
            other => return Err(failed(other)),
        };
        let attached = |domain: &str| match self {
            Desk::Hub(shared) => {
                let live = shared
                    .federation
                    .peers
                    .borrow()
                    .live
                    .get(domain)
                    .is_some_and(|live| live.state == Link::Up);
                live || shared.with_hub(|hub, _| {
                    hub.all_peers()
                        .any(|peer| *peer.remote == *domain && peer.link.get() == crate::hub::peer::Link::Up)
                })
            }
            Desk::Data(_) => false,
        };
        Ok(all.iter().map(|(domain, _)| format!("{domain}\t{}\n", attached(domain))).collect())
    }

    async fn component_remove(&self, domain: &str) -> Outcome {
        let domain = self.foreign(domain)?;
        if self.secret(&domain).await?.is_none() {
            return Err(format!("there is no component {domain}; stonechat component list shows them"));
        }
        self.write(Change::ComponentRemove { domain: domain.clone() }).await?;
        if let Desk::Hub(shared) = self {
            shared.federation.peers.borrow_mut().components.remove(&domain);
            peers::component_changed(shared, &domain);
        }
        Ok(format!("removed {domain}; its secret opens nothing any more"))
    }
}

const NEEDS_HUB: &str = "pairing needs a running hub: stonechat serve";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Store;

    /// A desk on data of its own, without a hub.
    struct Alone(Desk, std::path::PathBuf);

    impl Alone {
        fn new(name: &str) -> Alone {
            let dir = std::env::temp_dir().join(format!("stonechat-desk-{name}-{}", std::process::id()));
            let _ = std::fs::remove_dir_all(&dir);
            Alone(Desk::of_data(Store::open(&dir).unwrap(), "pi.local"), dir)
        }

        fn order(&self, words: &[&str]) -> Outcome {
            let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
            smol::block_on(self.0.carry_out(&words))
        }

        fn refuses(&self, words: &[&str], why: &str) {
            let line = self.order(words).expect_err("a refusal");
            assert!(line.contains(why) && !line.contains('\n'), "{words:?}: {line}");
        }

        fn field(&self, number: usize) -> Vec<String> {
            let list = self.order(&["peer", "list"]).unwrap();
            list.lines().map(|line| line.split('\t').nth(number).unwrap().to_owned()).collect()
        }
    }

    impl Drop for Alone {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.1);
        }
    }

    #[test]
    fn a_peer_is_added_changed_repaired_and_removed() {
        let desk = Alone::new("peer");
        let (one, two) = (cert::pin_text(&[1; 32]), cert::pin_text(&[2; 32]));
        assert_eq!(desk.order(&["peer", "list"]).unwrap(), "");
        assert_eq!(desk.order(&["peer", "add", "cove.local", "", ""]).unwrap(), "added cove.local");
        assert!(desk.order(&["peer", "remove", "cove.local"]).is_ok());
        assert_eq!(desk.order(&["peer", "add", "Boat.local", "", &one]).unwrap(), "added boat.local");
        assert_eq!(
            desk.order(&["peer", "add", "boat.local", "10.0.0.7:5269", ""]).unwrap(),
            "changed boat.local"
        );
        assert_eq!((desk.field(0), desk.field(4)), (vec!["boat.local".into()], vec![one.clone()]));
        assert_eq!((desk.field(1), desk.field(5)), (vec!["down".into()], vec!["10.0.0.7:5269".into()]));
        let said = desk.order(&["peer", "add", "boat.local", "", &two]).unwrap();
        assert!(said.contains(&one), "{said}");
        assert!(desk.order(&["peer", "repair", "boat.local"]).unwrap().contains(&two));
        assert_eq!(desk.field(4), [""]);
        desk.refuses(&["peer", "repair", "boat.local"], "no key of boat.local");
        desk.refuses(&["peer", "repair", "cove.local"], "nothing is kept of cove.local");
        let (local, remote, stanza) =
            ("pi.local".into(), "boat.local".into(), b"<message/>".as_slice().into());
        let wait = Change::ForwardPut { local, remote, first: false, time: 1, stanza };
        smol::block_on(desk.0.write(wait)).unwrap();
        assert_eq!((desk.field(6), desk.field(7)), (vec!["1".into()], vec!["10".into()]));
        assert!(desk.order(&["status"]).unwrap().contains("\nforward_messages\t1\ncomponents\t0\n"));
        assert!(desk.order(&["peer", "remove", "boat.local"]).unwrap().contains("wait for it: 1"));
        desk.refuses(&["peer", "remove", "boat.local"], "nothing is kept");
        assert_eq!(desk.field(0), ["boat.local"], "as long as something waits for it");
    }

    #[test]
    fn what_is_no_peer_is_refused_in_a_line() {
        let desk = Alone::new("no-peer");
        desk.refuses(&["peer", "add", "pi.local", "", ""], "this hub itself");
        desk.refuses(&["peer", "add", "ann@boat.local", "", ""], "behind the @");
        desk.refuses(&["peer", "add", "boat.local", "10.0.0.7", ""], "10.0.0.7:5269");
        desk.refuses(&["peer", "add", "boat.local", "", "sha256:xyz"], "a pin looks like");
        desk.refuses(&["peer", "pair", ""], "needs a running hub");
        desk.refuses(&["peer", "key"], "a running hub");
        desk.refuses(&["peer", "accept", "boat.local", "1234"], "needs a running hub");
        desk.order(&["component", "add", "irc.pi.local", ""]).unwrap();
        desk.refuses(&["peer", "add", "irc.pi.local", "", ""], "is a component");
        desk.order(&["peer", "add", "boat.local", "10.0.0.7:5269", ""]).unwrap();
        desk.refuses(&["component", "add", "boat.local", ""], "is a peer");
        desk.refuses(&["component", "add", "pi.local", ""], "this hub itself");
        desk.refuses(&["component", "add", "irc.pi.local", "two\nlines"], "one line");
    }

    #[test]
    fn a_component_has_a_secret() {
        let desk = Alone::new("component");
        let text = desk.order(&["component", "add", "IRC.pi.local", ""]).unwrap();
        let (secret, said) = text.split_once('\n').unwrap();
        assert!(secret.len() >= 32 && !secret.contains(char::is_whitespace));
        assert_eq!(said, "added irc.pi.local");
        let kept = |domain: &str| smol::block_on(desk.0.secret(domain)).unwrap();
        assert_eq!(kept("irc.pi.local").as_deref(), Some(secret));
        let text = desk.order(&["component", "add", "irc.pi.local", "a secret of our own"]).unwrap();
        assert_eq!(text, "\nnew secret for irc.pi.local", "what they know is not shown again");
        assert!(desk.order(&["component", "add", "sms.pi.local", "short"]).unwrap().contains("guessed"));
        assert_eq!(desk.order(&["component", "list"]).unwrap(), "irc.pi.local\tfalse\nsms.pi.local\tfalse\n");
        assert!(desk.order(&["status"]).unwrap().contains("\ncomponents\t2\n"));
        desk.order(&["component", "remove", "irc.pi.local"]).unwrap();
        desk.refuses(&["component", "remove", "irc.pi.local"], "there is no component");
        assert_eq!(kept("irc.pi.local"), None);
    }
}
