//! So many places, of which some are taken; how many there are may change meanwhile.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Places. Those who wait for one get it in their order.
#[derive(Debug)]
pub(super) struct Places {
    free: Arc<Semaphore>,
    max: AtomicUsize,
    /// Places too many that are still taken: they are gone when they are given back.
    surplus: AtomicUsize,
}

/// One place; given back when dropped.
#[derive(Debug)]
pub(super) struct Taken {
    permit: Option<OwnedSemaphorePermit>,
    places: Arc<Places>,
}

impl Places {
    pub(super) fn new(max: u32) -> Arc<Places> {
        let max = max as usize;
        Arc::new(Places {
            free: Arc::new(Semaphore::new(max)),
            max: max.into(),
            surplus: AtomicUsize::new(0),
        })
    }

    /// A place, if one is free.
    pub(super) fn try_take(self: &Arc<Self>) -> Option<Taken> {
        let permit = self.free.clone().try_acquire_owned().ok()?;
        Some(Taken { permit: Some(permit), places: self.clone() })
    }

    /// Waits for a place.
    pub(super) async fn take(self: Arc<Self>) -> Option<Taken> {
        let permit = self.free.clone().acquire_owned().await.ok()?;
        Some(Taken { permit: Some(permit), places: self })
    }

    pub(super) fn free(&self) -> usize {
        self.free.available_permits()
    }

    /// How many are taken.
    pub(super) fn taken(&self) -> u32 {
        let most = self.max.load(Ordering::Relaxed) + self.surplus.load(Ordering::Relaxed);
        u32::try_from(most.saturating_sub(self.free())).unwrap_or(u32::MAX)
    }

    /// From now on there are `max`. Those that are taken beyond it stay so until they are given back.
    /// One caller at a time.
    pub(super) fn resize(&self, max: u32) {
        let (max, old) = (max as usize, self.max.swap(max as usize, Ordering::Relaxed));
        if max < old {
            let gone = self.free.forget_permits(old - max);
            self.surplus.fetch_add(old - max - gone, Ordering::Relaxed);
            return;
        }
        let kept = (0..max - old).take_while(|_| self.pay()).count();
        self.free.add_permits(max - old - kept);
    }

    /// Takes one from the surplus, if there is one.
    fn pay(&self) -> bool {
        let less = |n: usize| n.checked_sub(1);
        self.surplus.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less).is_ok()
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        if let Some(permit) = self.permit.take()
            && self.places.pay()
        {
            permit.forget();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_become_fewer_as_they_are_given_back() {
        let places = Places::new(3);
        let mut taken: Vec<Taken> = (0..3).filter_map(|_| places.try_take()).collect();
        places.resize(1);
        assert_eq!((places.taken(), places.free()), (3, 0));
        taken.pop();
        assert!(places.try_take().is_none(), "two are taken, one is allowed");
        places.resize(2);
        assert!(places.try_take().is_none());
        taken.pop();
        assert_eq!((places.taken(), places.free()), (1, 1));
        taken.pop();
        places.resize(4);
        assert_eq!((places.taken(), places.free()), (0, 4));
        places.resize(2);
        assert_eq!((places.taken(), places.free()), (0, 2));
    }
}
