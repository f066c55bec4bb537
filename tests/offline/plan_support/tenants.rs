//! Profiles of tenants, as they are written and what becomes of them.

use harden::module::{Modules, evaluate};
use harden::profile::{Failure, load};
use harden::resource::Desired;

fn read(text: &str) -> Result<Desired, Failure> {
    let dir = tempfile::tempdir().unwrap();
    let head = "cluster.name = \"x\"\naccept = [\"tenants\"]\n";
    std::fs::write(dir.path().join("harden.toml"), format!("{head}{text}")).unwrap();
    let modules = Modules::builtin()?;
    evaluate(&load(dir.path(), &modules)?, &modules)
}

pub fn good(text: &str) -> Desired {
    read(text).unwrap_or_else(|e| panic!("{text}\n{e:#}"))
}

pub fn wrong(text: &str) -> String {
    match read(text) {
        Err(failure) => format!("{failure:#}"),
        Ok(_) => panic!("nothing is wrong with {text}"),
    }
}
