#!/usr/bin/env bash
# Builds the Debian package `tenure` and prints where it is.
#
#   systemd/package.sh                              builds the programs as they are released
#   systemd/package.sh --binaries target/debug      takes `tenured`, `tenure` and `examples/pages` that are there
#   systemd/package.sh --deb-version 0.1.0-2        another version than that of the daemon, with revision 1
#
# Needs cargo-deb and cargo-cyclonedx. Of the same programs it makes the same package, byte for byte.
set -euo pipefail
cd "$(dirname "$0")/.."

binaries=
options=()
while (($#)); do
    case $1 in
    --binaries)
        binaries=${2:?"--binaries needs a directory, such as target/debug"}
        # It is not going to be sent anywhere.
        options+=(--fast)
        ;;
    --deb-version) options+=(--deb-version "${2:?"--deb-version needs a version, such as 0.1.0-2"}") ;;
    *) echo "$0: $1 is not known; --binaries DIR and --deb-version VERSION are" >&2 && exit 2 ;;
    esac
    shift 2
done
for tool in cargo-deb cargo-cyclonedx; do
    command -v "$tool" >/dev/null || { echo "$0: $tool is not here: cargo install --locked $tool" >&2 && exit 1; }
done
command -v strip >/dev/null || { echo "$0: strip is not here: apt-get install binutils" >&2 && exit 1; }

# The moment of the last change stands for that of the making, so that the same sources make the same package.
epoch=$(git log -1 --format=%ct 2>/dev/null || echo 0)

put_together() {
    if [ -z "$binaries" ]; then
        # Each by itself: together, one would be built with the features of the other.
        cargo build --release --locked --package tenured --bin tenured >&2
        cargo build --release --locked --package tenure-cli --bin tenure >&2
        cargo build --release --locked --package tenured --example pages >&2
        binaries=${CARGO_TARGET_DIR:-target}/release
    fi

    stage=target/package
    rm -rf "$stage"
    mkdir -p "$stage"/{man,bash,zsh,fish,pages}
    # Without symbols, which are four fifths of them. (cargo-deb itself strips only what lies where cargo builds it.)
    install -s -m 755 "$binaries/tenured" "$binaries/tenure" "$stage"
    systemd/template.sh >"$stage/tenured@.service"
    "$binaries/examples/pages" "$stage/pages"
    mv "$stage/pages/"*.5 "$stage/pages/"*.8 "$stage/man"
    mv "$stage/pages/tenured.bash" "$stage/bash/tenured"
    mv "$stage/pages/_tenured" "$stage/zsh"
    mv "$stage/pages/tenured.fish" "$stage/fish"
    "$stage/tenure" man "$stage/man"
    "$stage/tenure" completion bash >"$stage/bash/tenure"
    "$stage/tenure" completion zsh >"$stage/zsh/_tenure"
    "$stage/tenure" completion fish >"$stage/fish/tenure.fish"

    # What the two programs are made of, as CycloneDX. The tool writes beside every manifest of the workspace.
    SOURCE_DATE_EPOCH=$epoch cargo cyclonedx --quiet --format json --target "$(rustc -vV | sed -n 's/^host: //p')" \
        --no-build-deps --override-filename tenure-sbom >&2
    # Without the path of this directory, which is nobody's business and another on each machine.
    sed "s|path+file://$PWD|path+file:///tenure|g" daemon/tenure-sbom.json >"$stage/tenured.cdx.json"
    sed "s|path+file://$PWD|path+file:///tenure|g" sdk/cli/tenure-sbom.json >"$stage/tenure.cdx.json"
    find . -name tenure-sbom.json -not -path './target/*' -delete
}

put_together
SOURCE_DATE_EPOCH=$epoch cargo deb --quiet --no-build --package tenured "${options[@]}" --output "$PWD/target/debian/"
