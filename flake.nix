{
  description = "Declarative hardening for self-managed Kubernetes clusters";

  inputs.nixpkgs.url = "github:NixOS/nixpkgs/nixos-unstable";

  outputs =
    { self, nixpkgs }:
    let
      systems = [
        "x86_64-linux"
        "aarch64-linux"
        "x86_64-darwin"
        "aarch64-darwin"
      ];
      each = f: nixpkgs.lib.genAttrs systems (system: f nixpkgs.legacyPackages.${system});
    in
    {
      packages = each (pkgs: rec {
        harden = pkgs.callPackage ./nix/package.nix { };
        default = harden;
      });
      overlays.default = final: _prev: { harden = final.callPackage ./nix/package.nix { }; };
      devShells = each (pkgs: {
        default = pkgs.mkShell {
          inputsFrom = [ self.packages.${pkgs.stdenv.hostPlatform.system}.harden ];
          packages = [
            pkgs.cargo-deny
            pkgs.clippy
            pkgs.go
            pkgs.kind
            pkgs.kubectl
            pkgs.rustfmt
            pkgs.shellcheck
          ];
        };
      });
      formatter = each (pkgs: pkgs.nixfmt);
    };
}
