//! Between the data plane, which counts connections, and those who look at them: nothing is told while nobody looks.
//!
//! The data plane sends a report and gets its answer once the next one is wanted (`verbs/traffic`), so it needs no door of its own and
//! does nothing meanwhile.

use crate::api::traffic::EndpointTraffic;
use std::{sync::Arc, time::Duration};
use tokio::{
    sync::{Notify, watch},
    time::timeout,
};

/// All endpoints, as they were told last.
pub(super) type Told = Arc<Vec<EndpointTraffic>>;

/// Where reports come in and go out.
#[derive(Debug, Default)]
pub(super) struct TrafficDesk {
    told: watch::Sender<Told>,
    wanted: Notify,
}

impl TrafficDesk {
    /// What is told from now on. While somebody has it, the data plane reports.
    pub(super) fn look(&self) -> watch::Receiver<Told> {
        let mut told = self.told.subscribe();
        told.mark_unchanged();
        self.wanted.notify_waiters();
        told
    }

    /// The next report; nothing when none comes in time, as without a data plane.
    pub(super) async fn next(&self, within: Duration) -> Option<Told> {
        let mut told = self.look();
        timeout(within, told.changed()).await.ok()?.ok()?;
        Some(Arc::clone(&told.borrow()))
    }

    /// Takes a report in, and returns once another is wanted; at the latest after a while.
    pub(super) async fn tell(&self, endpoints: Vec<EndpointTraffic>, hold: Duration) {
        self.told.send_replace(Arc::new(endpoints));
        let wanted = self.wanted.notified();
        if self.told.receiver_count() == 0 {
            // However it ends, the data plane reports again.
            timeout(hold, wanted).await.ok();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt as _;

    const HOLD: Duration = Duration::from_secs(20);

    fn report(connections: u64) -> Vec<EndpointTraffic> {
        vec![EndpointTraffic { connections, ..EndpointTraffic::default() }]
    }

    #[tokio::test(start_paused = true)]
    async fn a_report_is_answered_when_somebody_looks_or_after_a_while() {
        let desk = TrafficDesk::default();
        let began = tokio::time::Instant::now();
        desk.tell(report(1), HOLD).await;
        assert_eq!(began.elapsed(), HOLD, "nobody looks");
        // What was told before somebody looked is no news.
        let told = desk.tell(report(2), HOLD);
        tokio::pin!(told);
        assert_eq!((&mut told).now_or_never(), None);
        let mut looker = desk.look();
        assert_eq!(told.now_or_never(), Some(()));
        assert!(!looker.has_changed().unwrap());
        // While somebody looks, reports come as fast as the data plane sends them.
        assert_eq!(desk.tell(report(3), HOLD).now_or_never(), Some(()));
        assert_eq!(looker.borrow_and_update()[0].connections, 3);
        drop(looker);
        assert_eq!(desk.tell(report(4), HOLD).now_or_never(), None);
        assert_eq!(desk.next(HOLD).await, None, "no data plane");
    }
}
