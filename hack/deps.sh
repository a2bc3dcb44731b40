#!/usr/bin/env bash
# Installs what proa needs of the distribution and this machine lacks, saying what and why.
set -euo pipefail

need=()
want() { # command, package, reason
	if ! command -v "$1" >/dev/null && [ ! -x "/usr/sbin/$1" ]; then
		echo "installing $2: $3"
		need+=("$2")
	fi
}
want go golang-go "to build proa (a newer Go is fetched by go itself if go.mod asks for one)"
want gcc gcc "for the race detector of the tests"
want curl curl "to ask the demo"
want runc runc "the program that makes containers out of processes"
want busybox busybox-static "the shell inside the demo's image"
want nft nftables "to look at the rules that proa makes (tests read them)"

case " ${need[*]-} " in *" gcc "*) need+=(libc6-dev) ;; esac

if [ ${#need[@]} -gt 0 ]; then
	if ! command -v apt-get >/dev/null; then
		echo "this is not Debian or Ubuntu: install ${need[*]} yourself" >&2
		exit 1
	fi
	sudo=""
	[ "$(id -u)" = 0 ] || sudo="sudo"
	$sudo apt-get update -qq
	DEBIAN_FRONTEND=noninteractive $sudo apt-get install -y -qq --no-install-recommends "${need[@]}" >/dev/null
fi
