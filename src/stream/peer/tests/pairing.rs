//! Two people compare keys over a stream on which nothing is proven.

use super::*;
use crate::stream::pairing::Why;

fn hub(name: &str, key: u8) -> Hub {
    Hub { domain: name.into(), pin: [key; 32] }
}

fn open(end: &mut End, us: Hub, peer: Hub) {
    let window = Window::open(Duration::ZERO, Duration::from_secs(60), us.clone(), None, &us.pin);
    end.pairing = Some((window, peer, None));
}

fn seen(end: &End) -> &Event {
    end.pairing.as_ref().unwrap().2.as_ref().unwrap()
}

#[test]
fn strangers_see_one_code_and_prove_nothing() {
    for (direct, thin) in [(true, false), (false, false), (false, true)] {
        // Neither trusts the other at all.
        let (mut a, mut b) = (End::initiating(Rung::Dialback, Task::Pair), End::receiving(Rung::Dialback));
        (a.dialback, b.dialback) = (false, false);
        open(&mut a, hub("a.test", 1), hub("b.test", 2));
        open(&mut b, hub("b.test", 2), hub("a.test", 1));
        talk(&mut a, &mut b, direct, thin);
        let (Event::Compare(at_a), Event::Compare(at_b)) = (seen(&a), seen(&b)) else { panic!() };
        assert_eq!((at_a.code, &at_a.peer), (at_b.code, &hub("b.test", 2)));
        assert!(a.log.is_empty() && b.log.is_empty() && a.ready.is_none());
        // The stream is good for nothing else.
        b.say("<message from='x@a.test' to='y@b.test'><body/></message>");
        assert!(b.log.is_empty() && b.end.is_some());
        let said = a.say("<message from='x@b.test' to='y@a.test'><body/></message>");
        assert!(said.contains("not-authorized") && a.log.is_empty(), "{said}");
    }
    // Nobody is there who wants it.
    let (mut a, mut b) = (End::initiating(Rung::Ca, Task::Pair), End::receiving(Rung::Ca));
    open(&mut a, hub("a.test", 1), hub("b.test", 2));
    talk(&mut a, &mut b, true, false);
    assert_eq!(*seen(&a), Event::Retry(Why::Closed));
}

#[test]
fn there_is_a_time_for_it() {
    let word =
        "<commit xmlns='urn:stonechat:pairing:0'>AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=</commit>";
    // Before TLS no key was shown.
    let mut b = End::receiving(Rung::Ca);
    b.say(HEADER);
    assert!(b.say(word).contains("unsupported-stanza-type"));
    // When something is proven, there is nothing to compare.
    let mut b = End::open(Rung::Ca);
    let external = format!("<auth xmlns='{}' mechanism='EXTERNAL'>=</auth>", crate::xml::ns::SASL);
    assert!(b.say(&external).contains("success"));
    b.say(HEADER);
    assert!(b.say(word).contains("unsupported-stanza-type"));
    // Else it is answered, and what is no word of it is not.
    let mut b = End::open(Rung::Dialback);
    assert!(b.say(word).contains("closed</refused>"));
    assert!(b.say("<commit xmlns='urn:stonechat:pairing:0'>!</commit>").contains("unsupported-stanza-type"));
}
