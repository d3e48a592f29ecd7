# farmgate: the commands of a newcomer and of a developer. `make help` lists them.
#
# YES=1      install missing packages without asking
# V=1        show what cargo does

CARGO  ?= cargo
QUIET   = $(if $(V),,--quiet)
BIN     = target/debug
VIVIAN  = $(BIN)/vivian

.DEFAULT_GOAL := help
.PHONY: help demo test build images packages check fmt vivian vivian-down vivian-status vivian-reset \
        vivian-connect vpdu docs clean

help: ## this list
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: packages build images ## the whole story on this computer, in 3 minutes: a virtual machine boots, qualifies, runs a job
	@$(VIVIAN) demo

test: packages build images ## all tests, the end-to-end ones in QEMU included
	@./scripts/python-client >/dev/null
	@./scripts/python-oracle >/dev/null
	$(CARGO) test --workspace

build: packages ## all programs, into target/debug
	@echo "Building (the first time takes some minutes)..."
	@$(CARGO) build $(QUIET) --workspace

images: packages ## the kernel and initramfs that DUTs boot
	@./images/dut/build

packages: ## what apt-get must install, after asking
	@./scripts/install-packages

vivian: build images ## bring the virtual farm up and leave it up
	@$(VIVIAN) up $(VIVIAN_OPTS)

vivian-down: ## stop the virtual farm
	@$(VIVIAN) down

vivian-status: ## what runs of the virtual farm
	@$(VIVIAN) status

vivian-reset: ## stop the virtual farm and forget its machines
	@$(VIVIAN) reset

vivian-connect: ## a shell on the virtual gateway
	@$(VIVIAN) connect

vpdu: build images ## the virtual PDU alone, in the foreground, with the virtual farm's network around it
	@$(VIVIAN) run --no-gateway $(VIVIAN_OPTS)

check: ## formatting and lints, as CI does
	$(CARGO) fmt --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings

fmt: ## format everything
	$(CARGO) fmt

docs: ## the manual as a web site (needs mdbook), into target/book
	mdbook build

clean: ## remove the virtual farm's state and everything that was built
	-@[ -x $(VIVIAN) ] && $(VIVIAN) down
	$(CARGO) clean
	rm -rf var
