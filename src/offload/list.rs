/// Which slots follow each other in lists, each slot in one list at most.
///
/// What a slot stands for lies elsewhere, in a slab; memory is kept for all up to the highest.
#[derive(Default)]
pub(super) struct Links(Vec<Link>);

#[derive(Clone, Copy, Default)]
struct Link {
    previous: Option<usize>,
    next: Option<usize>,
}

/// The ends of one list.
#[derive(Default)]
pub(super) struct List {
    first: Option<usize>,
    last: Option<usize>,
}

impl List {
    pub(super) fn first(&self) -> Option<usize> {
        self.first
    }
}

impl Links {
    /// Appends a slot that is in no list.
    pub(super) fn append(&mut self, list: &mut List, slot: usize) {
        if slot >= self.0.len() {
            self.0.resize(slot + 1, Link::default());
        }
        self.0[slot] = Link { previous: list.last, next: None };
        match list.last {
            Some(last) => self.0[last].next = Some(slot),
            None => list.first = Some(slot),
        }
        list.last = Some(slot);
    }

    /// Takes a slot out of the list it is in.
    pub(super) fn remove(&mut self, list: &mut List, slot: usize) {
        let Link { previous, next } = self.0[slot];
        match previous {
            Some(previous) => self.0[previous].next = next,
            None => list.first = next,
        }
        match next {
            Some(next) => self.0[next].previous = previous,
            None => list.last = previous,
        }
    }
}
