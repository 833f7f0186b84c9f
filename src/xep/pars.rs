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
