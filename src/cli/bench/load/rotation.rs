//! Values that take turns.

/// Values in numbered places, of which each gets its turn.
#[derive(Debug)]
pub(super) struct Rotation<T> {
    places: Vec<Option<T>>,
    /// The place whose turn was last.
    last: usize,
}

impl<T: Copy> Rotation<T> {
    pub(super) const fn new() -> Self {
        Self { places: Vec::new(), last: 0 }
    }

    /// Puts a value into a place. The places below it exist from then on, so they should be filled as well.
    pub(super) fn insert(&mut self, place: usize, value: T) {
        if place >= self.places.len() {
            self.places.resize(place + 1, None);
        }
        self.places[place] = Some(value);
    }

    /// Empties a place. One that is empty already stays so.
    pub(super) fn remove(&mut self, place: usize) {
        if let Some(value) = self.places.get_mut(place) {
            *value = None;
        }
    }

    /// All values, in the order of their places.
    pub(super) fn values(&self) -> impl Iterator<Item = T> {
        self.places.iter().flatten().copied()
    }

    /// The value whose turn it is; `None` if there is none.
    pub(super) fn next(&mut self) -> Option<T> {
        for _ in 0..self.places.len() {
            self.last = (self.last + 1) % self.places.len();
            if let Some(value) = self.places[self.last] {
                return Some(value);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_value_gets_its_turn_and_a_removed_one_none() {
        let mut rotation = Rotation::new();
        assert_eq!(rotation.next(), None);
        for (place, value) in [(2, 'c'), (0, 'a'), (1, 'b')] {
            rotation.insert(place, value);
        }
        assert_eq!(rotation.values().collect::<String>(), "abc");
        let turns: String = (0..6).filter_map(|_| rotation.next()).collect();
        assert_eq!(turns, "bcabca");
        rotation.remove(1);
        rotation.remove(7);
        let turns: String = (0..4).filter_map(|_| rotation.next()).collect();
        assert_eq!(turns, "caca");
    }
}
