//! The disk of the engine, and what the node says of it.

use super::*;

impl World {
    fn disk_says(&self) -> String {
        let conditions = self.node().and_then(|node| node.status.clone()?.conditions).unwrap_or_default();
        let disk = conditions.into_iter().find(|c| c.type_ == "DiskPressure");
        disk.map(|c| format!("{} {}", c.status, c.reason.unwrap_or_default())).unwrap_or_default()
    }

    async fn until_disk_says(&self, what: &str) {
        self.until(what, |w| w.disk_says() == what).await;
    }
}

const ENOUGH: &str = "False KubeletHasNoDiskPressure";
const PRESSURE: &str = "True KubeletHasDiskPressure";

#[tokio::test(start_paused = true)]
async fn a_disk_that_is_as_good_as_full_is_pressure_until_there_is_room_again() {
    let mut world = World::new().await;
    world.until_disk_says(ENOUGH).await;
    // A tenth is pressure for a kubelet, and much for a developer.
    world.engine.set_disk_free(2 << 30);
    world.sleep(90).await;
    assert_eq!(world.disk_says(), ENOUGH);
    world.engine.set_disk_free(900 << 20);
    world.until_disk_says(PRESSURE).await;
    // A little more is not enough, for another process either.
    world.engine.set_disk_free(1100 << 20);
    world.stop_agent().await;
    world.start_agent();
    world.sleep(90).await;
    assert_eq!(world.disk_says(), PRESSURE);
    world.engine.set_disk_free(2 << 30);
    world.until_disk_says(ENOUGH).await;
    let told: Vec<String> = world.events("skiff").into_iter().filter(|text| text.contains("Disk")).collect();
    assert_eq!(
        told,
        ["NodeHasDiskPressure", "NodeHasNoDiskPressure"].map(|r| format!("{r}: Node skiff status is now: {r}"))
    );
}
