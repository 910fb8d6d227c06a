//! The runner of end-to-end test programs: one test after the other, since each has the machine's time for itself, and a
//! laboratory that is gone before the process is, since nothing else removes its namespaces.

use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Result;
use libtest_mimic::{Arguments, Failed, Trial};
use tokio::runtime::Runtime;

use crate::lab::{Lab, Options};
use crate::world::World;

/// A test in a laboratory that it shares with others. It puts back what it changes.
pub type Shared = fn(&Runtime, &mut World) -> Result<()>;
/// A test that makes what it needs.
pub type Alone = fn(&Runtime) -> Result<()>;

/// Names async tests `module::name`, each of which takes `&mut World`, for [`run_shared`].
#[macro_export]
macro_rules! shared_tests {
    ($($module:ident :: $name:ident),+ $(,)?) => {
        vec![$((
            stringify!($name),
            (|runtime: &tokio::runtime::Runtime, world: &mut $crate::world::World| {
                runtime.block_on($module::$name(world))
            }) as $crate::suite::Shared,
        )),+]
    };
}

/// Names async tests `module::name` without arguments for [`run_alone`].
#[macro_export]
macro_rules! alone_tests {
    ($($module:ident :: $name:ident),+ $(,)?) => {
        vec![$((
            stringify!($name),
            (|runtime: &tokio::runtime::Runtime| runtime.block_on($module::$name())) as $crate::suite::Alone,
        )),+]
    };
}

/// Runs tests in one laboratory, which the first of them starts.
pub fn run_shared(options: &Options, tests: Vec<(&'static str, Shared)>) -> Result<ExitCode> {
    let runtime = Arc::new(Runtime::new()?);
    let world: Arc<Mutex<Option<World>>> = Arc::default();
    let trials = tests.into_iter().map(|(name, test)| {
        let (runtime, world, options) = (Arc::clone(&runtime), Arc::clone(&world), options.clone());
        Trial::test(name, move || {
            let mut world = world.lock().unwrap_or_else(PoisonError::into_inner);
            let started = || Ok(World::new(runtime.block_on(Lab::start(options))?));
            let world = match &mut *world {
                Some(world) => world,
                none => none.insert(started().map_err(failed)?),
            };
            test(&runtime, world).map_err(failed)
        })
    });
    let conclusion = libtest_mimic::run(&one_by_one(), trials.collect());
    drop(world.lock().unwrap_or_else(PoisonError::into_inner).take());
    Ok(conclusion.exit_code())
}

/// Runs tests that each make a laboratory of their own.
pub fn run_alone(tests: Vec<(&'static str, Alone)>) -> Result<ExitCode> {
    let runtime = Arc::new(Runtime::new()?);
    let trials = tests.into_iter().map(|(name, test)| {
        let runtime = Arc::clone(&runtime);
        Trial::test(name, move || test(&runtime).map_err(failed))
    });
    Ok(libtest_mimic::run(&one_by_one(), trials.collect()).exit_code())
}

/// Shows a figure that a test measured, or a table of them. On the error output, since a test's name and its outcome share a
/// line of the other.
#[expect(clippy::print_stderr, reason = "what a test program shows")]
pub fn figure(text: impl std::fmt::Display) {
    eprintln!("{text}");
}

fn one_by_one() -> Arguments {
    Arguments { test_threads: Some(1), ..Arguments::from_args() }
}

#[expect(clippy::needless_pass_by_value, reason = "it stands where map_err hands the error over")]
fn failed(error: anyhow::Error) -> Failed {
    Failed::from(format!("{error:#}"))
}
