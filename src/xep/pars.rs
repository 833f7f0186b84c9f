//! XEP-0379: Pre-Authenticated Roster Subscription
//!
//! Who registers with an invitation that a user gave out has that user in the roster from the
//! start, and the user has them: both have said yes already.

use crate::hub::Hub;
use crate::hub::extension::Extension;
use crate::hub::talk::Sink;

/// The registry's entry.
pub const PARS: Extension = Extension {
    number: 379,
    name: "Pre-Authenticated Roster Subscription",
    version: "0.3.3",
    scope: "for who registers with an invitation",
    ..Extension::NEW
};

/// After a registration: makes contacts of the one who was invited and the one who invited, both
/// by localpart. One of them may be gone by now.
pub fn acquaint(hub: &mut Hub, sink: &mut dyn Sink, invited: &str, inviter: &str) {
    let inviter: Box<str> = inviter.into();
    hub.with_account(sink, invited, move |hub, sink, invited| {
        let Some(invited) = invited.and_then(|place| hub.account(place)) else { return };
        let (invited, domain) = (invited.jid.clone(), hub.names.domain.clone());
        // The store has the inviter as a localpart or as an address of ours.
        let local = inviter.split_once('@').map_or(&*inviter, |(local, _)| local).to_owned();
        hub.with_account(sink, &local.clone(), move |hub, sink, place| {
            let Some(place) = place else { return };
            hub.befriend(sink, place, invited.as_str());
            // It may have been let go of in the meantime.
            let name = invited.local().unwrap_or_default().to_owned();
            let inviter = format!("{local}@{domain}");
            hub.with_account(sink, &name, move |hub, sink, place| {
                if let Some(place) = place {
                    hub.befriend(sink, place, &inviter);
                }
            });
        });
    });
}

#[cfg(test)]
mod tests {
    use super::acquaint;
    use crate::store::change::Subscription;
    use crate::testing::World;
    use crate::xml::ns;

    #[test]
    fn both_have_each_other_at_once() {
        for inviter in ["romeo", "romeo@hub.test"] {
            for online in [false, true] {
                let mut w = World::new(&["romeo", "juliet"]);
                let romeo = online.then(|| w.login("romeo", "orchard"));
                acquaint(&mut w.hub, &mut w.ring, "juliet", inviter);
                w.settle();
                for (one, other) in [("romeo", "juliet"), ("juliet", "romeo")] {
                    let item = w.item(one, other).unwrap();
                    assert_eq!((item.subscription, item.listed, item.ask), (Subscription::Both, true, false));
                }
                if let Some(romeo) = romeo {
                    let push = w.one(romeo);
                    assert_eq!(push.of(ns::ROSTER, "item", "subscription").as_deref(), Some("both"));
                    let juliet = w.bound("juliet", "balcony");
                    w.send(juliet, "<presence/>");
                    assert_eq!((w.got(romeo).len(), w.got(juliet).len()), (1, 2), "they see each other");
                }
            }
        }
    }

    #[test]
    fn nobody_and_oneself() {
        let mut w = World::new(&["romeo"]);
        for (invited, inviter) in [("romeo", "nobody"), ("nobody", "romeo"), ("romeo", "romeo")] {
            acquaint(&mut w.hub, &mut w.ring, invited, inviter);
            w.settle();
        }
        assert_eq!(w.loaded("romeo").roster.len(), 0);
    }
}
