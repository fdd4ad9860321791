//! What clients send: [arrays of bulk strings](https://redis.io/docs/latest/develop/reference/protocol-spec/), or lines
//! of words, as people type them. Nothing is copied, and nothing is kept between calls.

/// The longest word. Redis allows 512 MiB.
const WORD_BYTES_MAX: usize = 1 << 20;

/// The most words of an array.
const WORDS_MAX: usize = 4096;

/// The longest array: one word of full length, and as much again for the others.
const COMMAND_BYTES_MAX: usize = 2 * WORD_BYTES_MAX;

/// The longest line of words.
const LINE_BYTES_MAX: usize = 64 << 10;

/// The longest line of a number. While it is not whole, all that is before it is parsed again with each byte.
const NUMBER_LINE_BYTES_MAX: usize = 32;

/// Input from here on is never incomplete: what is so long is a command or invalid.
pub(crate) const INPUT_BYTES_MAX: usize = COMMAND_BYTES_MAX + LINE_BYTES_MAX;

/// Why there is no command.
#[derive(Debug)]
pub(crate) enum Stop {
    /// There is none before there are `needed` bytes, and perhaps not then.
    Incomplete { needed: usize },
    /// No command begins like this.
    Invalid(String),
}

/// Finds the words of the first command, which may be none, and returns how many bytes it takes.
pub(crate) fn command<'a>(bytes: &'a [u8], words: &mut Vec<&'a [u8]>) -> Result<usize, Stop> {
    words.clear();
    let mut reader = Reader { bytes, at: 0 };
    if bytes.first().is_some_and(|&first| first != b'*') {
        let line = reader.line(LINE_BYTES_MAX, "too big inline request")?;
        // Redis has escapes within them. What looks the same must not mean something else.
        if line.iter().any(|byte| b"\"'".contains(byte)) {
            return Err(Stop::Invalid("quotes in inline request".into()));
        }
        words.extend(line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty()));
        return Ok(reader.at);
    }
    // As in Redis an array of less than nothing is nothing, and a word is not.
    for _ in 0..reader.number(b'*', i64::MIN, WORDS_MAX, "invalid multibulk length")? {
        let length = reader.number(b'$', 0, WORD_BYTES_MAX, "invalid bulk length")?;
        words.push(reader.word(length)?);
    }
    Ok(reader.at)
}

/// How far the bytes are understood.
struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    /// The next line, without its end. With it, it has `max` bytes at most.
    fn line(&mut self, max: usize, too_long: &str) -> Result<&'a [u8], Stop> {
        let rest = &self.bytes[self.at..];
        let Some(end) = rest.iter().take(max).position(|&byte| byte == b'\n') else {
            let is_too_long = rest.len() >= max;
            let needed = self.bytes.len() + 1;
            return Err(if is_too_long {
                Stop::Invalid(too_long.into())
            } else {
                Stop::Incomplete { needed }
            });
        };
        self.at += end + 1;
        Ok(rest[..end].strip_suffix(b"\r").unwrap_or(&rest[..end]))
    }

    /// A line with a number within these bounds behind a mark. A negative one is 0.
    fn number(&mut self, mark: u8, min: i64, max: usize, invalid: &str) -> Result<usize, Stop> {
        let line = self.line(NUMBER_LINE_BYTES_MAX, invalid)?;
        let Some(digits) = line.strip_prefix(&[mark]) else {
            let found = line.first().filter(|byte| byte.is_ascii_graphic()).map_or('?', |&byte| byte.into());
            return Err(Stop::Invalid(format!("expected '{}', got '{found}'", char::from(mark))));
        };
        let number = integer(digits).filter(|&number| number >= min).map(|n| usize::try_from(n).unwrap_or(0));
        number.filter(|&number| number <= max).ok_or_else(|| Stop::Invalid(invalid.into()))
    }

    /// A word of so many bytes, with a line end behind it.
    fn word(&mut self, length: usize) -> Result<&'a [u8], Stop> {
        let end = self.at + length;
        let needed = end + 2;
        if needed > COMMAND_BYTES_MAX {
            return Err(Stop::Invalid("too big command".into()));
        }
        let bytes = self.bytes.get(self.at..needed).ok_or(Stop::Incomplete { needed })?;
        self.at = needed;
        bytes.strip_suffix(b"\r\n").ok_or_else(|| Stop::Invalid("no line end after a bulk string".into()))
    }
}

/// A number in its shortest form, as Redis insists: no plus sign, no leading zeros, no spaces.
pub(crate) fn integer(digits: &[u8]) -> Option<i64> {
    let number: i64 = str::from_utf8(digits).ok()?.parse().ok()?;
    Some(number).filter(|number| number.to_string().as_bytes() == digits)
}
