//! Tells a pass that waits that its binding may have changed meanwhile. Decides nothing: whether a change matters to what
//! the pass waits for is said by [`crate::plan::Issue::is_outdated`].
//!
//! Only bindings that a pass follows have an entry: all others cost nothing, and a change of one costs a look at a table
//! of those that wait.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Notify;

use crate::binding::BindingRef;

/// Who follows which binding.
#[derive(Debug, Default)]
pub struct News {
    followed: Mutex<HashMap<BindingRef, Arc<Notify>>>,
}

/// Hears of the changes of one binding from when it was made. There is one at a time for each, as there is one pass.
#[derive(Debug)]
pub struct Follower<'a> {
    news: &'a News,
    binding: BindingRef,
    told: Arc<Notify>,
}

impl News {
    /// Begins to follow a binding.
    pub fn follow(&self, binding: BindingRef) -> Follower<'_> {
        let told = Arc::default();
        self.followed().insert(binding.clone(), Arc::clone(&told));
        Follower {
            news: self,
            binding,
            told,
        }
    }

    /// The binding, or what it depends on, is another one. To be called when the stores have it.
    pub fn tell(&self, binding: &BindingRef) {
        if let Some(told) = self.followed().get(binding) {
            told.notify_one();
        }
    }

    /// Any binding may be another one, or gone.
    pub fn tell_all(&self) {
        for told in self.followed().values() {
            told.notify_one();
        }
    }

    fn followed(&self) -> MutexGuard<'_, HashMap<BindingRef, Arc<Notify>>> {
        self.followed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Follower<'_> {
    /// Waits for the next change. One that came since the last call, or since the beginning, counts.
    ///
    /// # Cancel safety
    /// Cancel safe: a change that was not heard of is told by the next call.
    pub async fn changed(&self) {
        self.told.notified().await;
    }
}

impl Drop for Follower<'_> {
    fn drop(&mut self) {
        let mut followed = self.news.followed();
        if followed
            .get(&self.binding)
            .is_some_and(|told| Arc::ptr_eq(told, &self.told))
        {
            followed.remove(&self.binding);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;
    use crate::{binding::ApiVersion, samples::key};

    #[test]
    fn news_of_a_binding_is_told_to_its_follower_even_if_it_was_not_listening_yet() {
        let news = News::default();
        let [web, other] = ["web", "other"].map(|name| news.follow(key(ApiVersion::V1Beta2, name)));
        news.tell(&key(ApiVersion::V1Beta2, "web"));
        assert_eq!(web.changed().now_or_never(), Some(()));
        assert_eq!(web.changed().now_or_never(), None, "it is told once");
        assert_eq!(other.changed().now_or_never(), None);
        news.tell_all();
        assert!(web.changed().now_or_never().is_some() && other.changed().now_or_never().is_some());
    }

    #[test]
    fn news_that_nobody_follows_leaves_nothing_behind() {
        let news = News::default();
        let web = key(ApiVersion::V1Beta2, "web");
        news.tell(&web);
        let first = news.follow(web.clone());
        let second = news.follow(web.clone());
        drop(first);
        news.tell(&web);
        assert_eq!(second.changed().now_or_never(), Some(()), "it is still followed");
        drop(second);
        assert!(news.followed().is_empty());
    }
}
