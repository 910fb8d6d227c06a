//! What the laboratory is told by its surroundings; the one file that reads the environment.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

/// The installed tools; `cargo xtask tools` puts them there.
#[derive(Clone, Debug)]
pub struct Tools {
    directory: PathBuf,
}

impl Tools {
    /// Looks in `$ROLECALL_TOOLS`, or `.tools` at the root of the workspace.
    pub fn find() -> Result<Self> {
        let beside = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../.tools");
        let directory = std::env::var_os("ROLECALL_TOOLS").map_or_else(beside, PathBuf::from);
        let tools = Self { directory: std::path::absolute(directory)? };
        for program in [tools.ministack(), tools.aws(), tools.cnitool()] {
            ensure!(program.is_file(), "{} is missing: please run cargo xtask tools", program.display());
        }
        Ok(tools)
    }

    /// The cloud.
    pub fn ministack(&self) -> PathBuf {
        self.directory.join("ministack/bin/ministack")
    }

    /// The aws command line.
    pub fn aws(&self) -> PathBuf {
        self.directory.join("awscli/bin/aws")
    }

    /// libcni's command line.
    pub fn cnitool(&self) -> PathBuf {
        self.directory.join("cnitool/cnitool")
    }
}

/// The release programs under test.
#[derive(Clone, Debug)]
pub struct Programs {
    directory: PathBuf,
}

impl Programs {
    /// Looks beside the running program: the demo lies in `release`, a test in `release/deps`. So it holds for every
    /// target directory.
    pub fn find() -> Result<Self> {
        let own = std::env::current_exe().context("the path of this program is not known")?;
        let beside = own.parent().context("this program is in no directory")?;
        let directory = if beside.ends_with("deps") { beside.parent().unwrap_or(beside) } else { beside };
        let programs = Self { directory: directory.to_owned() };
        for program in [programs.node_agent(), programs.lambda_issuer(), programs.local_cloud()] {
            ensure!(
                program.is_file(),
                "{} is missing: please run cargo build --release --workspace --bins",
                program.display()
            );
        }
        Ok(programs)
    }

    /// The node agent.
    pub fn node_agent(&self) -> PathBuf {
        self.directory.join("node-agent")
    }

    /// The issuer function.
    pub fn lambda_issuer(&self) -> PathBuf {
        self.directory.join("lambda-issuer")
    }

    /// The stand-in for API Gateway, Lambda and EC2 metadata.
    pub fn local_cloud(&self) -> PathBuf {
        self.directory.join("local-cloud")
    }
}
