# The development loop. `make` alone lists what there is.

SHELL := /bin/bash
GO ?= go
BIN := bin
COMMANDS := nfseald nfseal mount.nfseal
VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
GOBUILD := CGO_ENABLED=0 $(GO) build -trimpath -ldflags '-X main.version=$(VERSION)'

# Seconds for each fuzz target of `make fuzz`, and benchmark names of `make bench-go`.
FUZZTIME ?= 10
BENCH ?= .
# A command that `make bench-tunnel` runs all of its programs under.
PRIORITY ?=
# Where `make run` keeps its data, and what else the daemon is told.
DATA ?= out/data
ARGS ?=
SUITE ?=

export GOFLAGS += -buildvcs=false

.DEFAULT_GOAL := help

.PHONY: help
help: ## this list
	@echo 'nfseal $(VERSION)'
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1|\2/p' $(MAKEFILE_LIST) | column -t -s '|'

.PHONY: build
build: ## the binaries, in bin/
	@mkdir -p $(BIN)
	@for c in $(COMMANDS); do echo "build $(BIN)/$$c" && $(GOBUILD) -o $(BIN)/$$c ./cmd/$$c || exit 1; done
	@$(GOBUILD) -o $(BIN)/nfseal-guest ./internal/uml/guest

.PHONY: build-pkcs11
build-pkcs11: ## nfseald that can have its root key in a PKCS#11 token, in bin/; takes a C compiler, and the host's C library to run
	@mkdir -p $(BIN)
	CGO_ENABLED=1 $(GO) build -trimpath -tags pkcs11 -ldflags '-X main.version=$(VERSION)' -o $(BIN)/nfseald ./cmd/nfseald

.PHONY: run
run: build ## serve until Ctrl-C, with all data in DATA=out/data; ARGS=... go to nfseald
	@mkdir -p $(DATA)
	exec $(BIN)/nfseald -data $(DATA) $(ARGS)

.PHONY: demo
demo: ## as root: a real Linux client mounts, copies, compares; then the search for plaintext
	@scripts/deps.sh demo
	@$(MAKE) --no-print-directory build
	@exec $(BIN)/nfseal demo

.PHONY: test
test: ## every test, with a real Linux NFS client for the end-to-end ones (root; some minutes)
	@scripts/deps.sh test
	$(GO) test -count=1 -p 2 -timeout 25m ./...

.PHONY: test-long
test-long: ## the tests that take long too: the soak, wide crash and metamorphic runs
	@scripts/deps.sh test
	NFSEAL_LONG=1 $(GO) test -count=1 -p 1 -timeout 240m ./...

.PHONY: test-client
test-client: ## as root: a newer kernel's NFS client in QEMU, in the clear and over its own TLS; SUITE=Debian's suite
	@scripts/test-client.sh $(SUITE)

.PHONY: race
race: ## every test under the race detector
	@scripts/deps.sh race
	CGO_ENABLED=1 $(GO) test -race -count=1 -p 2 -timeout 60m ./...

.PHONY: fuzz
fuzz: ## every fuzz target for FUZZTIME=10 seconds
	@scripts/fuzz.sh $(FUZZTIME)

.PHONY: bench
bench: ## as root: the daemon over TLS beside nfs-ganesha, plain, behind nginx, and with gocryptfs and stunnel
	@scripts/deps.sh test
	@scripts/deps.sh bench
	@$(MAKE) --no-print-directory build
	scripts/bench.sh out

.PHONY: bench-go
bench-go: ## the benchmarks of all packages; BENCH=regexp chooses
	$(GO) test -run '^$$' -bench '$(BENCH)' -benchmem -p 1 -timeout 60m ./...

.PHONY: bench-xts
bench-xts: ## the cipher on this processor's best path, as ratios to the ceiling and to others
	@set -o pipefail; NFSEAL_LONG=1 $(GO) test -run '^TestRatios$$' -count=1 -v ./xtsengine/xts | grep -vE '^(=== RUN|--- PASS|PASS)'

.PHONY: bench-engine
bench-engine: ## the engine without network, as ratios to fio on the same device and to a build without encryption; TMPDIR chooses the disk
	@scripts/deps.sh test
	@set -o pipefail; NFSEAL_LONG=1 $(GO) test -tags nullcipher -run '^TestEngine' -count=1 -v -timeout 60m ./xtsengine/filestore | grep -E '^(ratio|device|creates|removes|FAIL|ok)|_test.go'

.PHONY: bench-steer
bench-steer: ## as root: connect latency through the steering program against a bound socket
	@set -o pipefail; NFSEAL_LONG=1 $(GO) test -run '^TestConnectLatency$$' -count=1 -v ./bpf/steer | grep -E 'ratio|FAIL|ok'

.PHONY: bench-gate
bench-gate: ## as root: the cost of the XDP program, and its drop rate beside an nftables set, as ratios
	@scripts/deps.sh test
	$(GO) test -run '^$$' -bench '^BenchmarkCost$$' -benchtime 1x -timeout 60m ./bpf/gate

.PHONY: bench-flood
bench-flood: ## as root: what a mount keeps of its throughput in a SYN flood, with the gate and without
	@set -o pipefail; NFSEAL_LONG=1 $(GO) test -run '^TestFloodThroughput$$' -count=1 -v ./appliance | grep -E 'SYNs|ratio|FAIL|ok'

.PHONY: bench-halfopen
bench-halfopen: ## as root: what a mount over TLS keeps of its throughput beside 10,000 silent and dripping connections, and what one costs (14 minutes)
	@set -o pipefail; NFSEAL_LONG=1 $(GO) test -run '^TestHalfOpenThroughput$$' -count=1 -v -timeout 30m ./cmd/nfseald | grep -E 'op/s|connection|ratio|FAIL|ok'

.PHONY: bench-handshake
bench-handshake: ## TLS handshakes a second and their processor time beside nginx's stream module, as ratios
	@scripts/deps.sh bench
	@set -o pipefail; NFSEAL_LONG=1 $(GO) test -run '^TestHandshakeRatios$$' -count=1 -v ./cmd/nfseald | grep -vE '^(=== RUN|--- PASS|PASS)'

.PHONY: bench-tunnel
bench-tunnel: ## as root: the client's tunnel beside stunnel, haproxy and direct TCP on loopback, as ratios; PRIORITY='chrt -r 10' on a busy machine
	@scripts/deps.sh test
	@$(MAKE) --no-print-directory build
	@$(GO) test -c -o out/tunnel.test ./cmd/mount.nfseal
	@set -o pipefail; NFSEAL_LONG=1 NFSEAL_MOUNT=$(BIN)/mount.nfseal unshare --net bash -c 'ip link set lo up && sysctl -qw net.ipv4.tcp_congestion_control=reno && exec $(PRIORITY) out/tunnel.test -test.run "^TestTunnelRatios$$" -test.v' | grep -vE '^(=== RUN|--- PASS|PASS)'

.PHONY: bench-ktls
bench-ktls: ## as root: sessions and tunnels with kernel TLS beside user space, in user-mode Linux, and here if this kernel has TLS
	@scripts/deps.sh test
	@set -o pipefail; NFSEAL_LONG=1 $(GO) test -run '^TestKernelTLSRatios$$' -count=1 -v ./test/e2e ./proxy/tunnel | grep -E '^(machine|session|tunnel|ratio|FAIL|ok)|SKIP|_test.go'

.PHONY: lint
lint: generate-check ## gofmt, vet, staticcheck, package docs, import rules, house rules, generated code
	@bad=$$(gofmt -l $$(git ls-files -co --exclude-standard '*.go')); [ -z "$$bad" ] || { echo "gofmt: $$bad"; exit 1; }
	$(GO) vet ./...
	$(GO) tool staticcheck ./...
	$(GO) test -count=1 ./test/lint

.PHONY: generate
generate: ## regenerate committed generated code
	$(GO) generate ./...

.PHONY: generate-check
generate-check: ## the committed BPF objects are what their sources make
	@scripts/generate-check.sh

.PHONY: packages
packages: ## deb and rpm of the client, in out/packages; GOARCH=arm64 for another processor
	scripts/packages.sh out/packages

.PHONY: image
image: ## as root: the bootable disk image, in out/image; SIGN=key.pem makes a bundle for upgrades too, UPDATE_KEYS=dir names further keys; SB_KEY=key.pem SB_CERT=cert.pem sign for Secure Boot, POLICY_KEY=key.pem for the TPM
	@scripts/deps.sh image
	@$(GO) run ./image/build $(if $(UPDATE_KEYS),-update-keys "$(UPDATE_KEYS)") $(if $(SIGN),-sign "$(SIGN)") $(if $(SB_KEY),-secure-boot-key "$(SB_KEY)" -secure-boot-cert "$(SB_CERT)") $(if $(POLICY_KEY),-policy-key "$(POLICY_KEY)")

.PHONY: image-lock
image-lock: ## as root: image/packages.lock anew, with the versions that Debian's mirror has today
	@scripts/deps.sh image
	@$(GO) run ./image/build lock

.PHONY: iso
iso: ## as root: the medium for installations, for CD and USB, in out/image
	@scripts/deps.sh image
	@[ -e out/image/nfseal.raw ] || $(MAKE) --no-print-directory image
	@$(GO) run ./image/build iso

.PHONY: vmdk
vmdk: ## as root: the disk image as streamOptimized VMDK, for VMware, in out/image
	@scripts/deps.sh image
	@[ -e out/image/nfseal.raw ] || $(MAKE) --no-print-directory image
	@$(GO) run ./image/build vmdk

.PHONY: vagrant-box
vagrant-box: ## as root: a Vagrant box of the disk image for libvirt, in out/image; image/vagrant uses it
	@scripts/deps.sh image
	@[ -e out/image/nfseal.qcow2 ] || $(MAKE) --no-print-directory image
	@$(GO) run ./image/build box

.PHONY: vm
vm: ## the image in QEMU, on this terminal, its data in out/vm; Ctrl-A X ends it; VM_ACCEL=tcg where KVM boots nothing
	@scripts/deps.sh image
	@[ -e out/image/nfseal.qcow2 ] || $(MAKE) --no-print-directory image
	@scripts/vm.sh

.PHONY: rig
rig: ## as root: the image in QEMU and a client: mount, copy, power cut, damaged root, disk with data; some minutes
	@scripts/deps.sh test
	@$(MAKE) --no-print-directory image
	NFSEAL_LONG=1 NFSEAL_RIG_DIR=$(CURDIR)/out/rig $(GO) test -count=1 -v -timeout 60m -skip '^(TestShort|TestInstallMedium)$$' ./image/rig

.PHONY: rig-install
rig-install: ## as root: the medium for installations, as a CD, installs on an empty disk, which starts; a disk with data stays
	@scripts/deps.sh test
	@scripts/deps.sh image
	@$(MAKE) --no-print-directory image iso
	NFSEAL_LONG=1 $(GO) test -count=1 -v -timeout 60m -run InstallMedium ./image/rig

.PHONY: rig-upgrade
rig-upgrade: ## as root: an upgrade of the image, and one to a version that does not start; half an hour where KVM is not
	@scripts/deps.sh test
	@scripts/rig-versions.sh out/versions
	NFSEAL_LONG=1 NFSEAL_RIG_DIR=$(CURDIR)/out/rig NFSEAL_VERSIONS=$(CURDIR)/out/versions $(GO) test -count=1 -v -timeout 90m -run 'Upgrade|SecureBoot' ./image/rig

.PHONY: rig-long
rig-long: rig rig-install rig-upgrade ## as root: all that the rig has

.PHONY: clean
clean: ## remove bin/ and out/
	rm -rf $(BIN) out
