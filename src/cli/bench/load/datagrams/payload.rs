//! What is in a datagram: its number, and bytes that follow from it.

use crate::cli::bench::{load::pattern::Pattern, plan::NUMBER_BYTES};

/// The lower bits of a place in the pattern are the number of a datagram, the upper ones that of its worker.
const NUMBER_BITS: u32 = 40;

/// Makes the datagrams of a worker, and tells whether one came back unchanged.
#[derive(Debug)]
pub(super) struct Payload {
    pattern: Pattern,
    worker: u64,
    /// Of a datagram, in bytes; at least [`NUMBER_BYTES`].
    size: usize,
}

impl Payload {
    pub(super) fn new(seed: u64, worker: u64, size: usize) -> Self {
        Self { pattern: Pattern::new(seed), worker, size }
    }

    /// Writes the datagram of this number at the beginning of `buffer`, and returns it.
    pub(super) fn write<'a>(&self, number: u64, buffer: &'a mut [u8]) -> &'a [u8] {
        let datagram = &mut buffer[..self.size];
        let (head, body) = datagram.split_at_mut(NUMBER_BYTES);
        head.copy_from_slice(&number.to_le_bytes());
        body.copy_from_slice(self.body(number));
        datagram
    }

    /// The number of a datagram that came back; `None` if it is none of this worker's, or was changed.
    pub(super) fn number(&self, datagram: &[u8]) -> Option<u64> {
        let (head, body) = datagram.split_first_chunk::<NUMBER_BYTES>()?;
        let number = u64::from_le_bytes(*head);
        (datagram.len() == self.size && body == self.body(number)).then_some(number)
    }

    fn body(&self, number: u64) -> &[u8] {
        let mut position = self.pattern.start_of((self.worker << NUMBER_BITS) ^ number);
        self.pattern.next(&mut position, self.size - NUMBER_BYTES)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::udp::PAYLOAD_MAX;

    #[test]
    fn a_datagram_is_known_by_its_number_and_one_wrong_bit_is_found() {
        let mut buffer = vec![0; PAYLOAD_MAX];
        for size in [NUMBER_BYTES, 9, 512, PAYLOAD_MAX] {
            let payload = Payload::new(7, 3, size);
            let mut datagram = payload.write(1_000_000, &mut buffer).to_vec();
            assert_eq!((datagram.len(), payload.number(&datagram)), (size, Some(1_000_000)));
            assert_eq!(payload.number(&datagram[1..]), None);
            if size > NUMBER_BYTES {
                datagram[size - 1] ^= 1;
                assert_eq!(payload.number(&datagram), None);
            }
        }
    }

    #[test]
    fn the_datagrams_of_two_workers_and_of_two_numbers_differ() {
        let (mut one, mut other) = ([0; 512], [0; 512]);
        let payload = Payload::new(7, 0, 512);
        payload.write(1, &mut one);
        assert_eq!(Payload::new(7, 1, 512).number(&one), None);
        payload.write(2, &mut other);
        assert_ne!(one[NUMBER_BYTES..], other[NUMBER_BYTES..]);
    }
}
