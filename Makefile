# Everything a developer or a CI machine runs. `make` alone lists the targets.

VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
LDFLAGS := -s -w -X main.version=$(VERSION)
TOOL    := go tool -modfile=tools/go.mod
GO_DIRS := $(wildcard cmd internal migrations test)
IMAGE   ?= ferry:$(VERSION)
ARGS    ?=
TIMEOUT ?= 10m
DURATION ?= 45s
SEED    ?= 0

# The race detector needs cgo and a C compiler.
RACE     = $(shell command -v "$$(go env CC)" >/dev/null && [ "$$(go env CGO_ENABLED)" = 1 ] && echo -race)

# Tests and `ferry dev` each start a Postgres of their own: this finds or installs
# its binaries.
FIND_POSTGRES := go run ./internal/postgres/devcluster/findpostgres >/dev/null

.DEFAULT_GOAL := help

.PHONY: help
help: ## list the targets
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z0-9-]+):[^#]*## /\1\t/' | \
		while IFS="$$(printf '\t')" read -r name text; do printf '  make %-12s %s\n' "$$name" "$$text"; done

.PHONY: run
run: build ## run `ferry dev`: everything on this machine, ARGS='--lan' and the like
	@$(FIND_POSTGRES)
	@exec bin/ferry dev $(ARGS)

.PHONY: build
build: ## build bin/ferry, static
	CGO_ENABLED=0 go build -trimpath -ldflags '$(LDFLAGS)' -o bin/ferry ./cmd/ferry

.PHONY: test
test: ## run all Go tests, with the race detector where there is a C compiler
	@$(FIND_POSTGRES)
	go test $(RACE) -timeout $(TIMEOUT) ./... $(ARGS)

.PHONY: e2e
e2e: ## run ferry, the TypeScript client and the real SDK end to end
	@$(FIND_POSTGRES)
	test/e2e/run $(ARGS)

.PHONY: test-faults
test-faults: ## break everything that ferry needs, for DURATION (45s), by SEED
	@$(FIND_POSTGRES)
	go test -count=1 -v -timeout 0 ./test/faults $(ARGS) -args -duration=$(DURATION) -seed=$(SEED)

.PHONY: bench
bench: build ## measure ferry against bare Postgres, into bench/results.json
	@$(FIND_POSTGRES)
	go run ./test/bench $(ARGS)

.PHONY: lint
lint: ## check formatting, vet, staticcheck and the module files
	@unformatted="$$($(TOOL) gofumpt -l $(GO_DIRS))"; if [ -n "$$unformatted" ]; then \
		echo 'not gofumpt-formatted; run make fmt:'; echo "$$unformatted"; exit 1; fi
	go vet ./...
	$(TOOL) staticcheck ./...
	go mod tidy -diff
	go mod verify

.PHONY: fmt
fmt: ## format all Go code
	$(TOOL) gofumpt -w $(GO_DIRS)

.PHONY: fuzz
fuzz: ## run every fuzz target for FUZZTIME each, 10s by default, as many at once as there are processors
	tools/fuzz $(FUZZTIME)

.PHONY: cover
cover: ## measure the tests' coverage, into bin/cover.html
	@$(FIND_POSTGRES)
	@mkdir -p bin
	go test -timeout $(TIMEOUT) -coverpkg=./... -coverprofile=bin/cover.out ./...
	go tool cover -func=bin/cover.out | tail -n 1
	go tool cover -html=bin/cover.out -o bin/cover.html

.PHONY: image
image: ## build the container image, tagged IMAGE
	docker build --build-arg VERSION=$(VERSION) -t $(IMAGE) .

.PHONY: sbom
sbom: build ## list what bin/ferry is made of (CycloneDX), in bin/ferry.cdx.json
	NO_COLOR=1 go tool -modfile=tools/sbom.mod cyclonedx-gomod bin -json -licenses -std \
		-version $(VERSION) -output bin/ferry.cdx.json bin/ferry

.PHONY: vuln
vuln: ## look for known vulnerabilities in what ferry calls; asks vuln.go.dev
	$(TOOL) govulncheck $(ARGS) ./...

.PHONY: clean
clean: ## remove what the other targets made
	rm -rf bin
