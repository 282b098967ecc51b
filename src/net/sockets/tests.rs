//! A store and the data planes that join it, over a real socket in a directory of the test's own.

use super::{store::Store, *};
use crate::net::{ports::open, table::Protocol};
use std::{io::Read as _, net::SocketAddr};

/// Longer than anything here takes, so that a test that hangs fails.
const LONG: Duration = Duration::from_secs(20);

fn directory() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path()).unwrap();
    std::thread::spawn(move || store.serve());
    directory
}

async fn lead(directory: &Path) -> Sockets {
    tokio::time::timeout(LONG, Sockets::lead(directory)).await.unwrap().unwrap()
}

fn free_key(protocol: Protocol) -> ListenKey {
    ListenKey { address: crate::testing::ports::free_address(), protocol }
}

fn connects(address: SocketAddr) -> bool {
    std::net::TcpStream::connect(address).is_ok()
}

#[tokio::test]
async fn clients_wait_while_nobody_leads_and_the_next_leader_serves_them() {
    let directory = directory();
    let key = free_key(Protocol::Tcp);
    let first = lead(directory.path()).await;
    let socket = first.take(key, Role::NodePort).unwrap();
    open(&socket).unwrap();
    drop((first, socket));
    let mut waiting = std::net::TcpStream::connect(key.address).unwrap();
    let second = lead(directory.path()).await;
    let listener = std::net::TcpListener::from(second.take(key, Role::NodePort).unwrap());
    listener.set_nonblocking(false).unwrap();
    drop(listener.accept().unwrap());
    assert_eq!(waiting.read(&mut [0; 1]).unwrap(), 0);
}

#[tokio::test]
async fn one_leads_and_the_one_that_has_waited_longest_is_next() {
    let directory = directory();
    let first = lead(directory.path()).await;
    let key = free_key(Protocol::Udp);
    first.take(key, Role::NodePort).unwrap();
    let path = directory.path().to_owned();
    let mut second = Box::pin(Sockets::lead(&path));
    assert!(tokio::time::timeout(Duration::from_millis(50), &mut second).await.is_err(), "the first leads");
    drop(first);
    let second = tokio::time::timeout(LONG, second).await.unwrap().unwrap();
    assert_eq!(second.left.lock().unwrap().keys().copied().collect::<Vec<_>>(), [key]);
}

#[tokio::test]
async fn a_port_that_is_forgotten_is_free() {
    let directory = directory();
    let (kept, left) = (free_key(Protocol::Tcp), free_key(Protocol::Tcp));
    let first = lead(directory.path()).await;
    for key in [kept, left] {
        open(&first.take(key, Role::NodePort).unwrap()).unwrap();
        assert!(connects(key.address), "the store has a copy");
    }
    drop(first);
    let second = lead(directory.path()).await;
    second.forget_all_but(|key| *key == kept);
    assert!(connects(kept.address) && !connects(left.address));
    second.forget(kept);
    drop(second.take(kept, Role::NodePort).unwrap());
    assert!(!connects(kept.address));
    std::net::TcpListener::bind(left.address).unwrap();
}

#[tokio::test]
async fn who_says_what_it_may_not_is_cut_off() {
    let directory = directory();
    let (leader, key) = (lead(directory.path()).await, free_key(Protocol::Tcp));
    leader.take(key, Role::NodePort).unwrap();
    let stranger = join(directory.path()).unwrap();
    wire::send(&stranger, &Word::Drop(key), &[]).unwrap();
    assert!(wire::receive(&stranger).is_err());
    let bogus = OwnedFd::from(std::fs::File::open("/dev/null").unwrap());
    wire::send(leader.store.as_ref().unwrap(), &Word::Keep, &[&bogus]).unwrap();
    let next = lead(directory.path()).await;
    assert_eq!(next.left.lock().unwrap().len(), 1, "what was kept before stays");
}

#[tokio::test]
async fn more_sockets_than_one_packet_holds_are_handed_over() {
    let directory = directory();
    let first = lead(directory.path()).await;
    for _ in 0..300 {
        first.take(free_key(Protocol::Tcp), Role::NodePort).unwrap();
    }
    drop(first);
    assert_eq!(lead(directory.path()).await.left.lock().unwrap().len(), 300);
}

#[tokio::test]
async fn the_store_makes_the_sockets_of_cluster_ips_where_it_is_and_says_why_it_cannot() {
    let directory = directory();
    let first = lead(directory.path()).await;
    let key = free_key(Protocol::Tcp);
    let socket = first.take(key, Role::ClusterIp).unwrap();
    open(&socket).unwrap();
    let taken = free_key(Protocol::Tcp);
    let _program = std::net::TcpListener::bind(taken.address).unwrap();
    assert_eq!(first.take(taken, Role::ClusterIp).unwrap_err(), ListenError::PortConflict(taken));
    drop((first, socket));
    assert!(connects(key.address), "it is kept as every other is");
    let second = lead(directory.path()).await;
    second.take(key, Role::ClusterIp).unwrap();
    second.forget(key);
    assert!(!connects(key.address));
}
