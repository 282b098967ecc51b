//! Whose the containers and the network of a cluster's name are: this state's, or one's that is elsewhere.
//!
//! The network carries the identity of the state that it was made for, so every engine client sees it, from whatever machine, user
//! or folder. Called by `app` at its start, while it holds the claim. Pure but for [`look`] and
//! [`remove_unknown`].
//!
//! **Not here**: who runs the cluster now (`claim`), the network itself (`cidr`).

use super::cidr::network_name;
use crate::{
    base::ordered::Set,
    engine::{CLUSTER_LABEL, Engine, EngineError, Network},
};
use anyhow::bail;
use std::path::Path;

/// The label of a cluster's network with the identity of its state.
pub(super) const STATE_LABEL: &str = "dev.skiff.state";
/// The label with the folder of that state, for people. The folder may have moved since.
pub(crate) const FOLDER_LABEL: &str = "dev.skiff.data-dir";

/// What the engine has of a cluster's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    /// The network of its name.
    pub(super) network: Option<Network>,
    /// How many containers carry its label.
    pub(super) n_containers: usize,
    /// Whether the folder that the network names is on this machine, and another than the one of this state.
    pub(super) has_folder: bool,
}

/// Asks the engine. `own` is the folder of this state, as the network's label has it.
pub(super) async fn look(engine: &dyn Engine, cluster: &str, own: &str) -> anyhow::Result<Seen> {
    let network = engine.network(&network_name(cluster)).await?;
    let folder = network.as_ref().and_then(|network| network.labels.get(FOLDER_LABEL));
    let has_folder = folder.is_some_and(|folder| folder != own && Path::new(folder).exists());
    Ok(Seen { network, n_containers: engine.list().await?.len(), has_folder })
}

/// The state that a start brings.
#[derive(Clone, Copy, Debug)]
pub(super) struct State<'a> {
    /// Its identity.
    pub(super) id: &'a str,
    /// Whether nothing was ever written into it.
    pub(super) is_empty: bool,
    /// Whether the user wants it to take over what is there.
    pub(super) adopts: bool,
}

/// Whose the cluster is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// This state's, or nobody's.
    Ours,
    /// This state's from now on; here is a sentence about it.
    Noted(String),
    /// This state's from now on, under the identity that the network has; and a sentence about it.
    Adopted {
        /// That identity.
        id: String,
        /// The sentence.
        note: String,
    },
}

/// Says whose the cluster is.
///
/// # Errors
/// It is another state's. The text has the ways out.
pub(super) fn decide(cluster: &str, seen: &Seen, state: State<'_>) -> anyhow::Result<Verdict> {
    let label = |name: &str| seen.network.as_ref().and_then(|n| n.labels.get(name)).filter(|v| !v.is_empty());
    if let Some(network) = seen.network.as_ref()
        && network.labels.get(CLUSTER_LABEL).map(String::as_str) != Some(cluster)
    {
        bail!("the Docker network {} exists and is not skiff's: remove it, or choose another --name", network.name);
    }
    match label(STATE_LABEL) {
        Some(id) if id == state.id => Ok(Verdict::Ours),
        Some(id) if state.adopts => {
            let note = format!("the cluster {cluster} is taken over: its containers that this state does not know go");
            Ok(Verdict::Adopted { id: id.clone(), note })
        }
        // `skiff down` leaves a network that Docker does not give up; nothing of its state is left to be lost.
        Some(id) if seen.n_containers == 0 && !seen.has_folder => {
            let note = format!(
                "the network of the cluster {cluster} is left over from a state that is gone: it is taken over"
            );
            Ok(Verdict::Adopted { id: id.clone(), note })
        }
        Some(_) => bail!(elsewhere(cluster, seen.n_containers, label(FOLDER_LABEL))),
        // A network of an earlier skiff says nothing; a state in which nothing was ever written made no containers.
        None if state.is_empty && seen.n_containers > 0 && !state.adopts => {
            bail!(elsewhere(cluster, seen.n_containers, None))
        }
        None if seen.network.is_some() => Ok(Verdict::Noted(format!(
            "the network of the cluster {cluster} was made by an earlier skiff and does not say whose it is: it is taken over. \
             `skiff down` and `skiff up` make one that does"
        ))),
        None => Ok(Verdict::Ours),
    }
}

/// The label of a pod's container with the pod's UID, as the kubelet sets it.
const POD_UID_LABEL: &str = "io.kubernetes.pod.uid";

/// Removes the containers of pods that an adopting state does not know, before they are in the way of its own: the data plane of the
/// other state has the addresses of Services.
pub(super) async fn remove_unknown(engine: &dyn Engine, pods: &Set<String>) -> Result<(), EngineError> {
    for container in engine.list().await? {
        if !container.labels.get(POD_UID_LABEL).is_some_and(|uid| pods.contains(uid)) {
            engine.remove(&container.id).await?;
        }
    }
    Ok(())
}

fn elsewhere(cluster: &str, n_containers: usize, folder: Option<&String>) -> String {
    let what = if n_containers == 1 { "1 container".to_owned() } else { format!("{n_containers} containers") };
    let (known, that) = match folder {
        Some(folder) => (format!("was in {folder} when it was made"), format!("--data-dir {folder}")),
        None => ("is not in this data folder".to_owned(), "--data-dir and the folder of its state".to_owned()),
    };
    format!(
        "the cluster {cluster} exists on this engine ({what}), and its state is elsewhere: it {known}. Three ways out: use that state \
         (`skiff up` with {that}), take the cluster over with the state that is here (--adopt: pods that this state does not know \
         are removed), or remove it (`skiff down --name {cluster}`)"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{
        ContainerSpec,
        fake::{Behaviour, FakeEngine},
    };
    use expect_test::{Expect, expect};
    use std::collections::BTreeMap;

    fn seen(labels: Option<&[(&str, &str)]>, n_containers: usize) -> Seen {
        let network = labels.map(|labels| Network {
            id: "n1".into(),
            name: "skiff".into(),
            labels: labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect::<BTreeMap<_, _>>(),
            subnet: "10.244.0.0/15".into(),
            gateway: [10, 244, 0, 1].into(),
            bridge: "skiff".into(),
        });
        Seen { network, n_containers, has_folder: true }
    }

    fn check(seen: &Seen, state: State<'_>, expect: Expect) {
        let text = match decide("skiff", seen, state) {
            Ok(verdict) => format!("{verdict:?}"),
            Err(err) => format!("refused: {err}"),
        };
        expect.assert_eq(&text);
    }

    const MINE: State<'_> = State { id: "one", is_empty: false, adopts: false };
    const NEW: State<'_> = State { is_empty: true, ..MINE };
    const OURS: (&str, &str) = (CLUSTER_LABEL, "skiff");

    #[test]
    fn what_is_ours_or_nobodys_is_used() {
        check(&seen(None, 0), NEW, expect!["Ours"]);
        check(&seen(None, 3), MINE, expect!["Ours"]);
        check(&seen(Some(&[OURS, (STATE_LABEL, "one")]), 3), MINE, expect!["Ours"]);
    }

    #[test]
    fn what_another_state_has_is_refused_with_the_ways_out() {
        let other = seen(Some(&[OURS, (STATE_LABEL, "two"), (FOLDER_LABEL, "/home/a/.local/share/skiff/skiff")]), 3);
        check(
            &other,
            MINE,
            expect![
                "refused: the cluster skiff exists on this engine (3 containers), and its state is elsewhere: it was in /home/a/.local/share/skiff/skiff when it was made. Three ways out: use that state (`skiff up` with --data-dir /home/a/.local/share/skiff/skiff), take the cluster over with the state that is here (--adopt: pods that this state does not know are removed), or remove it (`skiff down --name skiff`)"
            ],
        );
        check(
            &other,
            State { adopts: true, ..MINE },
            expect![[
                r#"Adopted { id: "two", note: "the cluster skiff is taken over: its containers that this state does not know go" }"#
            ]],
        );
        check(
            &seen(Some(&[("x", "y")]), 0),
            State { adopts: true, ..MINE },
            expect!["refused: the Docker network skiff exists and is not skiff's: remove it, or choose another --name"],
        );
    }

    #[test]
    fn a_network_whose_state_is_gone_is_taken_over_while_nothing_runs_on_it() {
        let labels: &[(&str, &str)] = &[OURS, (STATE_LABEL, "two"), (FOLDER_LABEL, "/tmp/gone/data")];
        let left = |n_containers, has_folder| Seen { has_folder, ..seen(Some(labels), n_containers) };
        check(
            &left(0, false),
            NEW,
            expect![[
                r#"Adopted { id: "two", note: "the network of the cluster skiff is left over from a state that is gone: it is taken over" }"#
            ]],
        );
        for seen in [left(1, false), left(0, true)] {
            assert!(decide("skiff", &seen, NEW).unwrap_err().to_string().contains("its state is elsewhere"));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_adopting_state_keeps_the_pods_that_it_knows() {
        let engine = FakeEngine::for_test();
        engine.add_image("app:1", Behaviour::server());
        for (name, uid) in [("known", Some("u1")), ("stranger", Some("u2")), ("nameless", None)] {
            let labels = uid.map(|uid| (POD_UID_LABEL.to_owned(), uid.to_owned())).into_iter().collect();
            let spec = ContainerSpec { name: name.into(), image: "app:1".into(), labels, ..Default::default() };
            engine.create(&spec).await.unwrap();
        }
        remove_unknown(&engine, &["u1".to_owned()].into()).await.unwrap();
        let left: Vec<String> = engine.list().await.unwrap().into_iter().map(|c| c.name).collect();
        assert_eq!(left, ["known"]);
    }

    #[test]
    fn what_an_earlier_skiff_made_is_taken_over_by_a_state_that_can_be_its_own() {
        check(
            &seen(Some(&[OURS]), 3),
            MINE,
            expect![[
                r#"Noted("the network of the cluster skiff was made by an earlier skiff and does not say whose it is: it is taken over. `skiff down` and `skiff up` make one that does")"#
            ]],
        );
        check(
            &seen(Some(&[OURS]), 1),
            NEW,
            expect![
                "refused: the cluster skiff exists on this engine (1 container), and its state is elsewhere: it is not in this data folder. Three ways out: use that state (`skiff up` with --data-dir and the folder of its state), take the cluster over with the state that is here (--adopt: pods that this state does not know are removed), or remove it (`skiff down --name skiff`)"
            ],
        );
        check(&seen(None, 1), State { adopts: true, ..NEW }, expect!["Ours"]);
    }
}
