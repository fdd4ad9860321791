//! Whatever is given as an address: never a panic, and what is taken means the same when it is printed. Control characters are
//! escaped, and so not read back.

#![no_main]

use echoloop::Address;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if !text.contains(char::is_control)
        && let Ok(address) = text.parse::<Address>()
    {
        let printed = address.to_string();
        assert_eq!(printed.parse::<Address>().ok(), Some(address), "{printed}");
    }
});
