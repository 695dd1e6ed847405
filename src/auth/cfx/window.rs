use crate::proto::gssapi::Order;

/// Which numbers have come, as far as a bitmap of the latest tells.
#[derive(Clone, Copy, Debug)]
pub(super) struct Window {
    /// The number that comes next.
    next: u64,
    /// Bit n: whether `next - 1 - n` has come.
    received: u64,
}

impl Window {
    /// Numbers from `first` on: those before it have come.
    pub(super) fn new(first: u64) -> Window {
        Window { next: first, received: u64::MAX }
    }

    /// Takes note of a number. As numbers go around, half of them are ahead of the next one.
    pub(super) fn take(&mut self, number: u64) -> Order {
        let ahead = number.wrapping_sub(self.next);
        if ahead <= u64::MAX / 2 {
            let passed = u32::try_from(ahead + 1).ok();
            self.received = passed.and_then(|n| self.received.checked_shl(n)).unwrap_or(0) | 1;
            self.next = number.wrapping_add(1);
            return if ahead == 0 { Order::Next } else { Order::Gap };
        }
        let behind = self.next.wrapping_sub(number);
        let bit = u32::try_from(behind - 1).ok().and_then(|n| 1_u64.checked_shl(n)).unwrap_or(0);
        if self.received & bit != 0 || bit == 0 {
            return Order::Duplicate;
        }
        self.received |= bit;
        Order::Unsequenced
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_came_before_the_first_is_old() {
        for first in [0, 1, 7, u64::MAX] {
            for behind in [1, 2, 64, 65, 1 << 40] {
                let mut window = Window::new(first);
                assert_eq!(window.take(first.wrapping_sub(behind)), Order::Duplicate);
                assert_eq!(window.take(first), Order::Next);
            }
        }
    }

    #[test]
    fn the_last_of_the_window_can_still_come_and_the_one_before_it_cannot() {
        let mut window = Window::new(100);
        assert_eq!(window.take(164), Order::Gap);
        assert_eq!(window.take(101), Order::Unsequenced);
        assert_eq!(window.take(100), Order::Duplicate);
        assert_eq!(window.take(101), Order::Duplicate);
        assert_eq!(window.take(1 << 62), Order::Gap);
        assert_eq!(window.take(163), Order::Duplicate);
    }

    proptest! {
        #[test]
        fn the_window_agrees_with_a_set_of_what_has_come(
            first in prop_oneof![Just(0), Just(u64::MAX - 40), any::<u64>()],
            steps in prop::collection::vec(-80_i64..90, 1..200),
        ) {
            let mut window = Window::new(first);
            let (mut seen, mut next) = (HashSet::new(), 0_i128);
            for step in steps {
                let place = next + i128::from(step);
                let order = window.take(first.wrapping_add(place as u64));
                let expected = if place < 0 || next - place > 64 || !seen.insert(place) {
                    Order::Duplicate
                } else if place < next {
                    Order::Unsequenced
                } else if place == next {
                    Order::Next
                } else {
                    Order::Gap
                };
                prop_assert_eq!(order, expected);
                next = next.max(place + 1);
            }
        }
    }
}
