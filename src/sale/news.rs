//! What happens to a sale, as lines of the log of events: an operator who reads it afterwards sees when
//! it was paused, sold out and restocked, whoever said so and on whichever node.

use super::state::SaleState;

/// Logs what became of a sale between two of its states.
pub(super) fn tell(old: &SaleState, new: &SaleState) {
    for what in news(old, new) {
        tracing::info!("sale {}: {what}", new.id);
    }
}

/// Words for every difference that an operator or the latch makes; purchases make none.
fn news(old: &SaleState, new: &SaleState) -> Vec<String> {
    let mut news = Vec::new();
    if old.opens_at != new.opens_at || old.ends_at != new.ends_at {
        news.push("its times were changed".to_owned());
    }
    match (old.paused, new.paused) {
        (false, true) => news.push("paused".to_owned()),
        (true, false) => news.push("resumed".to_owned()),
        _ => {}
    }
    if old.epoch != new.epoch {
        news.push(format!("restocked, epoch {}", new.epoch));
    }
    for pool in &new.pools {
        let Some(was) = old.pools.iter().find(|was| was.name == pool.name) else { continue };
        match (&was.follow, &pool.follow) {
            (Some(was), Some(is)) if (was.read_at.0 == 0) != (is.read_at.0 == 0) => {
                let known = if is.read_at.0 == 0 { "unknown: nobody is admitted" } else { "known" };
                news.push(format!("pool {}: what the shop has left is {known}", pool.name));
            }
            _ => {}
        }
        // A number of the shop's moves with every order.
        if was.stock != pool.stock && pool.follow.is_none() {
            news.push(format!("pool {}: stock {} -> {}", pool.name, was.stock, pool.stock));
        }
        if !was.sold_out && pool.sold_out {
            news.push(format!(
                "pool {}: sold out, {} confirmed and {} in limbo of {}",
                pool.name, pool.confirmed, pool.limbo, pool.stock
            ));
        }
    }
    if !old.ended && new.ended {
        news.push("ended".to_owned());
    }
    news
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sale::tests::state;

    #[test]
    fn purchases_are_no_news_and_words_and_latches_are() {
        let old = state("drop", 1, 1);
        let mut new = old.clone();
        new.pools[0].confirmed += 1;
        new.version += 1;
        assert_eq!(news(&old, &new), [""; 0]);
        (new.paused, new.epoch, new.ended) = (true, 2, true);
        let (stock, name) = (new.pools[0].stock, new.pools[0].name.clone());
        new.pools[0].stock += 5;
        new.pools[0].sold_out = true;
        let told = [
            "paused".to_owned(),
            "restocked, epoch 2".to_owned(),
            format!("pool {name}: stock {stock} -> {}", stock + 5),
            format!("pool {name}: sold out, 1 confirmed and 0 in limbo of {}", stock + 5),
            "ended".to_owned(),
        ];
        assert_eq!(news(&old, &new), told);
    }
}
