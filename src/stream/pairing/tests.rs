use super::*;

const START: Duration = Duration::from_secs(1000);
const PATIENCE: Duration = Duration::from_secs(300);

fn hub(name: &str, key: u8) -> Hub {
    Hub { domain: name.into(), pin: [key; 32] }
}

fn window(us: &Hub) -> Window {
    Window::open(START, PATIENCE, us.clone(), None, &[us.pin[0]; 32])
}

/// Over the wire and back.
fn sent(message: &Message) -> Message {
    let mut out = Vec::new();
    message.write(&mut out);
    let text = String::from_utf8(out).unwrap();
    let name = text.trim_start_matches('<').split(' ').next().unwrap();
    let inner = text.split_once('>').unwrap().1.split_once('<').unwrap().0;
    assert!(text.contains(&format!("xmlns='{NS}'")) || text.contains(&format!("xmlns=\"{NS}\"")), "{text}");
    Message::read(name, inner).unwrap()
}

fn offer(heard: &Heard) -> Offer {
    match &heard.event {
        Some(Event::Compare(offer)) => offer.clone(),
        other => panic!("{other:?}"),
    }
}

/// The whole exchange; what both persons see.
fn exchange(a: &mut Window, b: &mut Window, as_b: &Hub, as_a: &Hub) -> (Offer, Offer) {
    let commit = a.initiate(START, 1, as_b).unwrap();
    let nonce = b.hear(START, 2, as_a, &sent(&commit));
    assert_eq!(nonce.event, None);
    let reveal = a.hear(START, 1, as_b, &sent(&nonce.reply.unwrap()));
    let end = b.hear(START, 2, as_a, &sent(&reveal.reply.unwrap()));
    assert_eq!(end.reply, None);
    (offer(&reveal), offer(&end))
}

#[test]
fn two_hubs_two_people_one_code() {
    let (one, two) = (hub("a.local", 1), hub("b.local", 2));
    let (mut a, mut b) = (window(&one), window(&two));
    let (at_a, at_b) = exchange(&mut a, &mut b, &two, &one);
    assert_eq!(at_a.code, at_b.code);
    assert_eq!(at_a.digits().len(), 7);
    assert_eq!((at_a.peer.clone(), at_b.peer.clone()), (two.clone(), one.clone()));
    assert_eq!(Offer { peer: one.clone(), code: 7 }.digits(), "000 007");
    // Nothing is pinned before a person has said so, here; and only for the domain that he means.
    assert_eq!(a.confirm(START, "c.local"), Err(Why::Closed));
    assert_eq!(a.confirm(START, "b.local"), Ok(two.clone()));
    assert!(!a.is_open(START) && b.is_open(START));
    // The stream may go meanwhile; the other's person takes his time, but not for ever.
    assert_eq!(b.lost(2), None);
    assert_eq!(b.confirm(START + PATIENCE, "a.local"), Err(Why::Closed));
    assert_eq!(b.confirm(START + PATIENCE - Duration::from_secs(1), "a.local"), Ok(one.clone()));
    // Once is once.
    assert_eq!(b.confirm(START, "a.local"), Err(Why::Closed));
    assert_eq!(a.initiate(START, 3, &two), Err(Why::Closed));
}

/// Threat I4: one who stands between, with a key of his own, and relays.
#[test]
fn a_relay_between_two_hubs_makes_two_codes() {
    let mut same = 0;
    for number in 0..200u8 {
        let (one, two) = (hub("a.local", 1), hub("b.local", 2));
        // To each he says that he is the other, and shows his own key.
        let (as_one, as_two) = (hub("a.local", 99), hub("b.local", 99));
        let mut a = Window::open(START, PATIENCE, one.clone(), None, &[number; 32]);
        let mut b = Window::open(START, PATIENCE, two.clone(), None, &[number.wrapping_add(100); 32]);
        // Handing on what the others say does not get him through: it is bound to the keys.
        let Message::Commit(theirs) = a.initiate(START, 1, &as_two).unwrap() else { panic!() };
        if number == 0 {
            let mut b = window(&two);
            let heard = b.hear(START, 2, &as_one, &Message::Commit(theirs));
            let heard = a.hear(START, 1, &as_two, &heard.reply.unwrap());
            let heard = b.hear(START, 2, &as_one, &heard.reply.unwrap());
            assert_eq!(heard.event, Some(Event::Closed(Why::Broken)));
            assert_eq!(b.confirm(START, "a.local"), Err(Why::Closed));
            continue;
        }
        // So he runs two exchanges of his own, and chooses his nonces as late as he can.
        let mine = [number; 32];
        let commit = Message::Commit(commitment(&mine, &as_one, &two));
        let Some(Message::Nonce(_)) = b.hear(START, 2, &as_one, &commit).reply else { panic!() };
        let at_b = offer(&b.hear(START, 2, &as_one, &Message::Reveal(mine)));
        let at_a = offer(&a.hear(START, 1, &as_two, &Message::Nonce([number ^ 0xff; 32])));
        same += u32::from(at_a.code == at_b.code);
    }
    assert_eq!(same, 0);
}

/// Threat I5: guesses are counted, and there is one.
#[test]
fn there_is_one_try() {
    let (one, two) = (hub("a.local", 1), hub("b.local", 2));
    // He has heard our nonce, knows the code, does not like it, and hangs up.
    let mut b = window(&two);
    let commit = Message::Commit(commitment(&[5; 32], &one, &two));
    assert!(b.hear(START, 1, &one, &commit).reply.is_some());
    assert_eq!(b.lost(1), Some(Event::Closed(Why::Lost)));
    assert_eq!(b.hear(START, 2, &one, &commit), Heard::refuse(Why::Closed));
    // He reveals something else, or says what is not his turn.
    for wrong in [Message::Reveal([6; 32]), Message::Nonce([5; 32]), commit] {
        let mut b = window(&two);
        b.hear(START, 1, &one, &commit);
        let heard = b.hear(START, 1, &one, &wrong);
        assert_eq!(heard.event, Some(Event::Closed(Why::Broken)), "{wrong:?}");
        assert_eq!(b.hear(START, 1, &one, &Message::Reveal([5; 32])), Heard::refuse(Why::Closed));
    }
    // The same stream with another key or name is another.
    let mut b = window(&two);
    b.hear(START, 1, &one, &commit);
    let heard = b.hear(START, 1, &hub("a.local", 3), &Message::Reveal([5; 32]));
    assert_eq!(heard.event, Some(Event::Closed(Why::Broken)));
    // Who has not heard anything yet has not guessed: that may be begun again, with other dice.
    let mut a = window(&one);
    let first = a.initiate(START, 1, &two).unwrap();
    assert_eq!(a.lost(1), Some(Event::Retry(Why::Lost)));
    assert_ne!(a.initiate(START, 2, &two).unwrap(), first);
    assert_eq!(a.hear(START, 2, &two, &closed()).event, Some(Event::Retry(Why::Closed)));
    assert!(a.is_open(START));
    // A person's no ends it at both.
    let (mut a, mut b) = (window(&one), window(&two));
    exchange(&mut a, &mut b, &two, &one);
    let (stream, no) = a.refuse().unwrap();
    assert_eq!(stream, 1);
    assert_eq!(b.hear(START, 2, &one, &sent(&no)).event, Some(Event::Closed(Why::Refused)));
    assert_eq!(b.confirm(START, "a.local"), Err(Why::Closed));
    assert!(b.refuse().is_none());
}

#[test]
fn our_own_key_and_our_own_words_are_refused() {
    let (one, two) = (hub("a.local", 1), hub("b.local", 2));
    let mut a = window(&one);
    assert_eq!(a.initiate(START, 1, &hub("b.local", 1)), Err(Why::Ourselves));
    assert_eq!(a.initiate(START, 1, &hub("a.local", 2)), Err(Why::Ourselves));
    let heard = a.hear(START, 1, &hub("b.local", 1), &Message::Commit([0; 32]));
    assert_eq!(heard, Heard::refuse(Why::Ourselves));
    assert!(a.is_open(START));
    // A mirror that shows another key sends back what it gets.
    let Message::Commit(mine) = a.initiate(START, 1, &two).unwrap() else { panic!() };
    let heard = a.hear(START, 1, &two, &Message::Commit(mine));
    assert_eq!(heard, Heard::refuse(Why::Collision));
    let State::Committed { nonce, .. } = a.state else { panic!() };
    let heard = a.hear(START, 1, &two, &Message::Nonce(nonce));
    assert_eq!(heard.event, Some(Event::Closed(Why::Broken)));
}

#[test]
fn who_comes_second_or_late_or_uninvited_is_refused() {
    let (one, two, three) = (hub("a.local", 1), hub("b.local", 2), hub("c.local", 3));
    let mut b = window(&two);
    let commit = Message::Commit(commitment(&[5; 32], &one, &two));
    b.hear(START, 1, &one, &commit);
    for message in [Message::Commit([0; 32]), Message::Reveal([5; 32]), Message::Nonce([1; 32])] {
        assert_eq!(b.hear(START, 2, &three, &message), Heard::refuse(Why::Busy));
    }
    assert_eq!(b.hear(START, 2, &three, &Message::Refused(Why::Refused)), Heard::default());
    assert_eq!(b.initiate(START, 3, &three), Err(Why::Busy));
    assert!(offer(&b.hear(START, 1, &one, &Message::Reveal([5; 32]))).peer == one);
    assert_eq!(b.hear(START, 2, &three, &Message::Commit([0; 32])), Heard::refuse(Why::Busy));
    // Opened for one domain.
    let mut b = Window::open(START, PATIENCE, two.clone(), Some("a.local"), &[2; 32]);
    assert_eq!(b.hear(START, 1, &three, &Message::Commit([0; 32])), Heard::refuse(Why::Busy));
    assert!(b.hear(START, 1, &one, &commit).event.is_none());
    // Too late.
    let mut b = window(&two);
    assert_eq!(b.hear(START + PATIENCE, 1, &one, &commit), Heard::refuse(Why::Closed));
    assert_eq!(b.offer(START), None);
}

#[test]
fn if_both_begin_one_exchange_goes_on() {
    let (one, two) = (hub("a.local", 1), hub("b.local", 2));
    let (mut a, mut b) = (window(&one), window(&two));
    let (from_a, from_b) = (a.initiate(START, 1, &two).unwrap(), b.initiate(START, 7, &one).unwrap());
    // Stream 1 is 8 at the other side, and 7 is 2.
    assert_eq!(a.hear(START, 2, &two, &from_b), Heard::refuse(Why::Collision));
    let nonce = b.hear(START, 8, &one, &from_a);
    // What is late of the other exchange disturbs nobody.
    assert_eq!(b.hear(START, 7, &one, &Message::Refused(Why::Collision)), Heard::default());
    assert_eq!(b.lost(7), None);
    let reveal = a.hear(START, 1, &two, &nonce.reply.unwrap());
    let end = b.hear(START, 8, &one, &reveal.reply.unwrap());
    assert_eq!(offer(&reveal).code, offer(&end).code);
}

#[test]
fn elements_and_uris_are_read_as_they_are_written() {
    for message in [Message::Commit([1; 32]), Message::Nonce([0xff; 32]), Message::Reveal([0; 32])] {
        assert_eq!(sent(&message), message);
    }
    for (why, _) in Why::ALL {
        assert_eq!(sent(&Message::Refused(why)), Message::Refused(why));
    }
    for (name, text) in [("commit", ""), ("commit", "AAAA"), ("nonce", "!"), ("other", "")] {
        assert_eq!(Message::read(name, text), None);
    }
}
