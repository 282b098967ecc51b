//! `skiff timeline`: how the containers of a pod ended and came back, to the millisecond.

use super::{cluster::ClusterArgs, completion::offers, output};
use crate::{
    api::{
        names,
        timeline::{API_VERSION, Start, Timeline},
    },
    base::{json::typed, runtime::block_on},
};
use anyhow::Context as _;

/// Arguments of `skiff timeline`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  skiff timeline web-0\n  skiff timeline pod/web-0 -n shop -o json")]
pub(super) struct Args {
    /// The pod: NAME, or pod/NAME
    #[arg(value_name = "POD", value_parser = pod_name, add = offers::pods())]
    pod: String,
    /// Its namespace
    #[arg(short, long, default_value = "default", value_parser = namespace, add = offers::namespaces())]
    namespace: String,
    /// How it is printed
    #[arg(short, long, value_enum, default_value_t = Format::Table)]
    output: Format,
    #[command(flatten)]
    cluster: ClusterArgs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// A table
    Table,
    /// What the API answers
    Json,
}

fn pod_name(text: &str) -> Result<String, String> {
    let name = match text.split_once('/') {
        None => text,
        Some(("po" | "pod" | "pods", name)) => name,
        Some((kind, _)) => return Err(format!("pods have timelines, and a {kind} is none")),
    };
    checked(name, names::dns1123_subdomain(name))
}

fn namespace(text: &str) -> Result<String, String> {
    checked(text, names::dns1123_label(text))
}

fn checked(name: &str, wrong: Vec<String>) -> Result<String, String> {
    if wrong.is_empty() { Ok(name.to_owned()) } else { Err(wrong.join("; ")) }
}

pub(super) fn run(args: &Args) -> anyhow::Result<()> {
    let (namespace, pod) = (&args.namespace, &args.pod);
    let path = format!("/apis/{API_VERSION}/namespaces/{namespace}/pods/{pod}/timeline");
    let answer = block_on(async { args.cluster.client()?.get(&path).await.map_err(anyhow::Error::from) })?;
    let answer = answer.with_context(|| format!("the timeline of pod {pod} in namespace {namespace}"))?;
    match args.output {
        Format::Json => output::line(serde_json::to_string_pretty(&answer)?),
        Format::Table => table(&typed::<Timeline>(answer)?.starts).iter().for_each(output::line),
    }
    Ok(())
}

const HEAD: [&str; 10] =
    ["CONTAINER", "RESTART", "WHY", "ENDED", "NOTICED", "CREATED", "STARTED", "READY", "SERVED", "LOST"];

/// The lines of the table: what came before a start, and how many milliseconds after that end it was noticed, created, started, ready, and a client first
/// had a reply; and how many connections clients lost with that end. What ran before skiff started is adopted: it was noticed and ready at a time
/// that nobody knows.
fn table(starts: &[Start]) -> Vec<String> {
    if starts.is_empty() {
        return vec!["No container of the pod has started since skiff runs.".to_owned()];
    }
    let rows: Vec<[String; 10]> = std::iter::once(HEAD.map(str::to_owned)).chain(starts.iter().map(row)).collect();
    let cells: Vec<[&str; 10]> = rows.iter().map(|row| std::array::from_fn(|n| &*row[n])).collect();
    output::columns(&cells)
}

fn row(start: &Start) -> [String; 10] {
    let after = |ms: Option<i64>| ms.map_or("-".to_owned(), |ms| format!("+{ms}ms"));
    let mut why = match (&start.cause, start.exit_code) {
        (Some(cause), Some(code)) => format!("{cause} ({code})"),
        (Some(cause), None) => cause.clone(),
        (None, _) => "first start".to_owned(),
    };
    if start.adopted {
        why.push_str(", adopted");
    }
    [
        start.container.clone(),
        start.restart.to_string(),
        why,
        start.ended.clone().unwrap_or_else(|| "-".to_owned()),
        after(start.noticed_after_ms),
        after(start.created_after_ms),
        after(Some(start.started_after_ms)),
        after(start.ready_after_ms),
        after(start.served_after_ms),
        start.lost.map_or_else(|| "-".to_owned(), |lost| lost.to_string()),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;

    #[test]
    fn a_table_tells_each_start() {
        let first = Start {
            container: "web".into(),
            started: "2026-01-01T00:00:00.100Z".into(),
            started_after_ms: 100,
            ready_after_ms: Some(130),
            served_after_ms: Some(150),
            ..Start::default()
        };
        let second = Start {
            restart: 1,
            cause: Some("Killed".into()),
            exit_code: Some(137),
            ended: Some("2026-01-01T00:01:00.000Z".into()),
            noticed_after_ms: Some(3),
            created_after_ms: Some(90),
            started_after_ms: 210,
            ready_after_ms: None,
            served_after_ms: None,
            lost: Some(2),
            ..first.clone()
        };
        let adopted = Start { adopted: true, noticed_after_ms: None, ..second.clone() };
        expect![[r#"
            CONTAINER  RESTART  WHY                    ENDED                     NOTICED  CREATED  STARTED  READY   SERVED  LOST
            web        0        first start            -                         -        -        +100ms   +130ms  +150ms  -
            web        1        Killed (137)           2026-01-01T00:01:00.000Z  +3ms     +90ms    +210ms   -       -       2
            web        1        Killed (137), adopted  2026-01-01T00:01:00.000Z  -        +90ms    +210ms   -       -       2"#]]
        .assert_eq(&table(&[first, second, adopted]).join("\n"));
        assert_eq!(table(&[]).len(), 1);
    }

    #[test]
    fn a_pod_is_named_as_kubectl_names_it() {
        assert_eq!(pod_name("pod/web"), Ok("web".to_owned()));
        assert_eq!(pod_name("web"), Ok("web".to_owned()));
        assert!(pod_name("deployment/web").is_err() && pod_name("../x").is_err());
    }
}
