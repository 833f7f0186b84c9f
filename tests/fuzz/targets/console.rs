//! Orders of an operator, as they come through the control socket: words with NUL between them, here
//! several in a row with line ends between. Carried out on data of their own in memory.
//!
//! Not `backup`: it writes where it is told to.
#![no_main]

use libfuzzer_sys::fuzz_target;
use std::cell::RefCell;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use stonechat::net::desk::Desk;
use stonechat::store::Store;

thread_local! {
    static DESK: Desk = desk();
    /// Accounts that are there.
    static USERS: RefCell<Vec<String>> = RefCell::default();
}

fn desk() -> Desk {
    let dir = std::env::temp_dir().join(format!("stonechat-fuzz-{}", std::process::id()));
    let store = Store::open(&dir).expect("a place for the data");
    // Open files stay usable, and the store asks the directory only how much room there is.
    let _ = std::fs::remove_dir_all(&dir);
    std::fs::create_dir(&dir).expect("a place for the data");
    let desk = Desk::of_data(store, "hub.test");
    for order in [["user", "add", "probe", "x"].as_slice(), &["user", "remove", "probe"]] {
        let words: Vec<String> = order.iter().map(|word| (*word).to_owned()).collect();
        block_on(desk.carry_out(&words)).expect("a desk that works");
    }
    desk
}

struct Unpark(std::thread::Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(value) => return value,
            Poll::Pending => std::thread::park(),
        }
    }
}

fn list(desk: &Desk) -> Vec<String> {
    let words = ["user", "list"].map(str::to_owned);
    let text = block_on(desk.carry_out(&words)).expect("a list");
    text.lines().map(|line| line.split('\t').next().unwrap_or_default().to_owned()).collect()
}

fuzz_target!(|data: &[u8]| {
    DESK.with(|desk| {
        // Each run begins without accounts.
        for user in USERS.take() {
            let words = ["user", "remove", &user].map(str::to_owned);
            block_on(desk.carry_out(&words)).expect("it is there");
        }
        for order in data.split(|b| *b == b'\n').take(4) {
            let words: Result<Vec<String>, _> =
                order.split(|b| *b == 0).map(|word| String::from_utf8(word.to_vec())).collect();
            let Ok(words) = words else { continue };
            if words.first().is_some_and(|word| word == "backup") {
                continue;
            }
            let outcome = block_on(desk.carry_out(&words));
            let changes = words.first().is_some_and(|word| word == "user") && words.len() >= 3;
            if !changes {
                continue;
            }
            let known = list(desk);
            USERS.with_borrow_mut(|users| {
                match (words[1].as_str(), &outcome) {
                    ("add", Ok(_)) => assert_eq!(known.len(), users.len() + 1),
                    ("remove", Ok(_)) => assert_eq!(known.len() + 1, users.len()),
                    _ => assert_eq!(known, *users),
                }
                *users = known;
            });
            for user in list(desk) {
                assert_eq!(stonechat::jid::BareJid::parse(&user).expect("an address").as_str(), user);
            }
        }
    });
});
