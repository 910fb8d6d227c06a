//! Flags and environment of `node-agent serve`.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::{BoolishValueParser, NonEmptyStringValueParser};
use clap::{ArgAction, Args};
use model::annotation::AnnotationKeys;

use crate::issuer::IssuerUrl;
use crate::metadata::{AllowedPath, REQUESTS_PER_SECOND};
use crate::node::MetadataEndpoint;

/// Every address of the host, IPv4 and IPv6.
pub const ANY: IpAddr = IpAddr::V6(Ipv6Addr::UNSPECIFIED);

/// Answer the metadata calls of this node's pods.
#[derive(Clone, Debug, Args)]
#[allow(clippy::struct_excessive_bools, reason = "independent switches of a command line")]
pub struct ServeArgs {
    /// Where pods' metadata calls arrive, brought there by `node-agent intercept`. Shared with a second agent during a roll.
    #[arg(long, env = "ROLECALL_LISTEN", value_name = "ADDRESS:PORT", default_value_t = SocketAddr::new(ANY, 8181))]
    pub listen: SocketAddr,

    /// Where /metrics, /readyz and /livez are.
    #[arg(long, env = "ROLECALL_HEALTH_LISTEN", value_name = "ADDRESS:PORT", default_value_t = SocketAddr::new(ANY, 8182))]
    pub health_listen: SocketAddr,

    /// A file for the same pages on a socket that this container alone sees, for exec probes (`node-agent check`): during
    /// a roll two agents share the port, and either may answer there.
    #[arg(long, env = "ROLECALL_HEALTH_SOCKET", value_name = "FILE")]
    pub health_socket: Option<PathBuf>,

    /// The issuer's API: `https://{api}-{vpce}.execute-api.{region}.amazonaws.com/v1/credentials`.
    #[arg(long, env = "ROLECALL_ISSUER_URL", value_name = "URL")]
    pub issuer_url: IssuerUrl,

    /// The region that requests to the issuer are signed for. Default: the one in the API's host
    /// name, or else the one that this instance runs in, as the real metadata service says.
    #[arg(long, env = "ROLECALL_REGION", value_name = "REGION", value_parser = NonEmptyStringValueParser::new())]
    pub region: Option<String>,

    /// PEM file of roots that are trusted besides the system's, for TLS to the issuer.
    #[arg(long, env = "ROLECALL_ISSUER_CA_FILE", value_name = "FILE")]
    pub issuer_ca_file: Option<PathBuf>,

    /// Where libcni keeps its records of pods.
    #[arg(long, env = "ROLECALL_CNI_DIR", value_name = "DIR", default_value = "/var/lib/cni/results")]
    pub cni_dir: PathBuf,

    /// Directory shared with `node-agent intercept`, emptied by a reboot: the token key and `intercept.ok`.
    #[arg(long, env = "ROLECALL_STATE_DIR", value_name = "DIR", default_value = "/run/rolecall")]
    pub state_dir: PathBuf,

    /// The real EC2 metadata service.
    #[arg(long, env = "ROLECALL_METADATA_ENDPOINT", value_name = "URL", default_value = "http://169.254.169.254")]
    pub metadata_endpoint: MetadataEndpoint,

    /// Paths of the real metadata service that pods may read besides region, zone, instance id and type, and the identity
    /// document: an expression for the whole path, such as `/latest/meta-data/(hostname|mac)`; repeatable (in the
    /// environment: separated by spaces). User data, the node's credentials and signatures are never passed on.
    #[arg(long, env = "ROLECALL_ALLOW_METADATA", value_name = "REGEX", value_delimiter = ' ')]
    pub allow_metadata: Vec<AllowedPath>,

    /// Refuse requests without a session token.
    #[arg(long, env = "ROLECALL_REQUIRE_IMDSV2", value_parser = BoolishValueParser::new())]
    pub require_imdsv2: bool,

    /// How many requests each pod may make a second, five seconds' worth of them at once; what is beyond gets 503 after a
    /// quarter of a second.
    #[arg(long, env = "ROLECALL_REQUESTS_PER_SECOND_PER_POD", value_name = "NUMBER", default_value_t = REQUESTS_PER_SECOND)]
    pub requests_per_second_per_pod: NonZeroU32,

    /// Answer pods that share one interface of the host (bridges), although they can take each other's address, and with it
    /// each other's role.
    #[arg(long, env = "ROLECALL_ALLOW_SHARED_INTERFACE", value_parser = BoolishValueParser::new())]
    pub allow_shared_interface: bool,

    /// The pod annotation that names a role.
    #[arg(long, env = "ROLECALL_ANNOTATION_ROLE_KEY", value_name = "KEY", default_value_t = AnnotationKeys::default().role,
          value_parser = NonEmptyStringValueParser::new())]
    pub annotation_role_key: String,

    /// Be ready only while `node-agent intercept` reports that pods' calls arrive here. `false` is for machines without
    /// interception, where clients are sent to this port by their own settings.
    #[arg(long, env = "ROLECALL_REQUIRE_INTERCEPT", default_value = "true", action = ArgAction::Set,
          value_name = "BOOL", value_parser = BoolishValueParser::new())]
    pub require_intercept: bool,

    /// A `Host` header to accept besides the metadata service's own, such as `127.0.0.1:8181`, for machines without
    /// interception; repeatable.
    #[arg(long, env = "ROLECALL_ACCEPT_HOST", value_name = "HOST[:PORT]", value_delimiter = ',')]
    pub accept_host: Vec<String>,

    /// How long requests under way may take after SIGTERM.
    #[arg(long, env = "ROLECALL_DRAIN_DEADLINE", value_name = "DURATION", default_value = "5s",
          value_parser = humantime::parse_duration)]
    pub drain_deadline: Duration,
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Cli {
        #[command(flatten)]
        serve: ServeArgs,
    }

    const ISSUER: &str = "https://api-vpce.execute-api.eu-west-1.amazonaws.com/v1/credentials";

    fn parse(more: &[&str]) -> Result<ServeArgs, clap::Error> {
        let args = ["serve", "--issuer-url", ISSUER];
        Cli::try_parse_from(args.iter().chain(more)).map(|cli| cli.serve)
    }

    #[test]
    fn defaults_are_those_of_a_node() {
        let args = parse(&[]).unwrap();
        assert_eq!(args.listen.to_string(), "[::]:8181");
        assert_eq!(args.health_listen.to_string(), "[::]:8182");
        assert_eq!(args.cni_dir, PathBuf::from("/var/lib/cni/results"));
        assert_eq!(args.annotation_role_key, "iam.amazonaws.com/role");
        assert!(args.require_intercept && !args.require_imdsv2 && !args.allow_shared_interface);
        assert_eq!(args.drain_deadline, Duration::from_secs(5));
    }

    #[test]
    fn a_bad_value_is_named() {
        for (args, named) in [
            (["--allow-metadata", "("], "--allow-metadata"),
            (["--listen", "8181"], "--listen"),
            (["--drain-deadline", "soon"], "--drain-deadline"),
            (["--require-intercept", "maybe"], "--require-intercept"),
            (["--annotation-role-key", ""], "--annotation-role-key"),
            (["--requests-per-second-per-pod", "0"], "--requests-per-second-per-pod"),
            (["--issuer-ulr", "x"], "--issuer-ulr"),
        ] {
            let error = parse(&args).unwrap_err().to_string();
            assert!(error.contains(named), "{error}");
        }
        let error = Cli::try_parse_from(["serve"]).unwrap_err().to_string();
        assert!(error.contains("--issuer-url"), "{error}");
    }
}
