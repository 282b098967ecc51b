//! `skiff tag`: gives an image, or what a tag means, a tag of an image stream, as `oc tag` does, for those who have no `oc`.
//!
//! **Source** of what is sent and said: github.com/openshift/oc, `pkg/cli/tag/tag.go`, release 4.20.

use super::{cluster::ClusterArgs, completion::offers, output};
use crate::{
    api::kinds::image_stream::{API_VERSION, DOCKER_IMAGE, IMAGE_STREAM_IMAGE, IMAGE_STREAM_TAG},
    base::runtime::block_on,
};
use anyhow::Context as _;
use serde_json::{Value, json};

/// Arguments of `skiff tag`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  skiff tag web:1.2 web:prod\n  skiff tag --source istag web:test web:prod")]
pub(super) struct Args {
    /// What gets the tag: an image of Docker's, or with --source a tag or an image of a stream
    #[arg(value_name = "SRC")]
    from: String,
    /// The tag; its stream is made if there is none
    #[arg(value_name = "STREAM:TAG", value_parser = stream_tag)]
    to: String,
    /// What SRC is
    #[arg(long, value_enum, default_value_t = Source::Docker)]
    source: Source,
    /// Keep the name alone: no image is looked for
    #[arg(long)]
    reference: bool,
    /// The stream's namespace
    #[arg(short, long, default_value = "default", add = offers::namespaces())]
    namespace: String,
    #[command(flatten)]
    cluster: ClusterArgs,
}

/// What is tagged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Source {
    /// An image, by its name
    Docker,
    /// A tag of a stream: stream:tag
    Istag,
    /// An image of a stream: stream@sha256:…
    Isimage,
}

impl Source {
    fn kind(self) -> &'static str {
        match self {
            Self::Docker => DOCKER_IMAGE,
            Self::Istag => IMAGE_STREAM_TAG,
            Self::Isimage => IMAGE_STREAM_IMAGE,
        }
    }
}

fn stream_tag(text: &str) -> Result<String, String> {
    match text.split_once(':') {
        Some((stream, tag)) if !stream.is_empty() && !tag.is_empty() => Ok(text.to_owned()),
        _ => Err("it is a tag of a stream, STREAM:TAG".to_owned()),
    }
}

pub(super) fn run(args: Args) -> anyhow::Result<()> {
    block_on(tag(&args))?
}

async fn tag(args: &Args) -> anyhow::Result<()> {
    let client = args.cluster.client()?;
    let url = format!("/apis/{API_VERSION}/namespaces/{}/imagestreamtags/{}", args.namespace, args.to);
    client.put(&url, &body(args)).await.with_context(|| format!("cannot set {}", args.to))?;
    output::done(format!("Tag {} set to {}.", args.to, args.from));
    Ok(())
}

/// The tag as it is wanted: without a revision, so whatever it was.
fn body(args: &Args) -> Value {
    json!({
        "apiVersion": API_VERSION,
        "kind": "ImageStreamTag",
        "metadata": { "name": args.to },
        "tag": {
            "name": args.to.split_once(':').map(|(_, tag)| tag),
            "from": { "kind": args.source.kind(), "name": args.from },
            "reference": args.reference,
            // It is looked for anew, although it may follow the same name as before.
            "generation": 0,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser as _;

    #[derive(Debug, clap::Parser)]
    struct Alone {
        #[command(flatten)]
        args: Args,
    }

    fn parse(words: &[&str]) -> Result<Args, String> {
        let words = ["tag"].iter().chain(words);
        Alone::try_parse_from(words).map(|alone| alone.args).map_err(|err| err.to_string())
    }

    #[test]
    fn a_tag_is_set_to_what_is_named() {
        let args = parse(&["app:1", "web:prod"]).unwrap();
        let tag = body(&args)["tag"].clone();
        assert_eq!(
            tag,
            json!({ "name": "prod", "from": { "kind": "DockerImage", "name": "app:1" }, "reference": false, "generation": 0 })
        );
        let args = parse(&["--source", "istag", "web:test", "web:prod", "-n", "shop"]).unwrap();
        assert_eq!(body(&args)["tag"]["from"], json!({ "kind": "ImageStreamTag", "name": "web:test" }));
        assert_eq!(args.namespace, "shop");
        let refused = parse(&["app:1", "web"]).unwrap_err();
        assert!(refused.contains("it is a tag of a stream, STREAM:TAG"), "{refused}");
    }
}
