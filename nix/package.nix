# The package: pure tests run in the build; the tests that need a cluster are `#[ignore]`d there.
{
  lib,
  rustPlatform,
  pkg-config,
  openssl,
}:
let
  manifest = (lib.importTOML ../Cargo.toml).package;
in
rustPlatform.buildRustPackage {
  pname = manifest.name;
  version = manifest.version;
  src = lib.cleanSource ../.;
  cargoLock.lockFile = ../Cargo.lock;
  nativeBuildInputs = [ pkg-config ];
  # nixpkgs' OpenSSL is 3.5 or newer: with it libssh2 offers mlkem768x25519-sha256 as well.
  buildInputs = [ openssl ];
  # These start an sshd of their own, which the build sandbox has not.
  cargoTestFlags = [
    "--lib"
    "--bins"
    "--test=architecture"
  ];
  meta = {
    inherit (manifest) description;
    license = lib.licenses.asl20;
    mainProgram = "harden";
  };
}
