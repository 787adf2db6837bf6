# Everything here needs Go and make. `make check` adds a linter, which `go run`
# fetches and builds at the version below; nothing is installed.
#
# golangci-lint is run as package@version rather than through a tool directive: a
# directive in go.mod would give everyone who requires this module the linter's two
# hundred requirements in the module graph, and a module of its own would let minimal
# version selection change the dependencies that the linter was released with.
# v2.15.0 builds with Go 1.26, in about 80 s on two cores with empty caches.
GOLANGCI_LINT ?= github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0

# Of Prometheus 3.16. The tag leaves out service discovery, which no rule needs.
PROMTOOL ?= -tags remove_all_sd github.com/prometheus/prometheus/cmd/promtool@v0.316.0

ARGS     ?=
BENCH    ?= .
COUNT    ?= 10
FUZZTIME ?= 10s

# Every module of the repository, the root (.) first. Nested ones are not part of
# `./...`, so each target visits them one by one. A go.work further up must not
# change what is built.
MODULES := $(sort $(patsubst %/go.mod,%,$(shell find . -name go.mod -not -path '*/testdata/*' -not -path '*/node_modules/*')))
export GOWORK = off

# $(call each,title,commands): run commands in the folder of every module. A failure
# does not keep the other modules from their turn; all failures are named at the end.
define each
failed=; for m in $(MODULES); do \
	echo "==> $(1): $$m"; \
	( cd "$$m" && $(2) ) || failed="$$failed $$m"; \
done; \
if [ -n "$$failed" ]; then echo "FAILED $(1):$$failed"; exit 1; fi
endef

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help demo shots test check format vet lint race tidy bench microbench fuzz rules dashboards dashboard-shots stack-test compose-test up down logs cover

help: ## Show this help
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-15s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

demo: ## Run the demo for about a minute; ARGS=-h explains its flags
	@[ -e bin/demo ] || echo "Building the demo, and the Prometheus in it: some minutes the first time." >&2
	@go build -C examples/grafana -o "$(CURDIR)/bin/demo" .
	@exec bin/demo $(ARGS)

shots: ## Take the pictures of the README: the demo's pages during its outage; needs chromium
	@go build -C examples/grafana -o "$(CURDIR)/bin/demo" .
	@mkdir -p docs/images
	@BREAKWATER_DEMO="$(CURDIR)/bin/demo" BREAKWATER_SHOTS="$(CURDIR)/docs/images" CI=true \
		go test -C liveres/e2e -count=1 -run '^(TestPicturesOfTheDemo|TestPagesOfTheDemo)$$' .
	@ls -l docs/images

test: ## Test every module, with the race detector where there is a C compiler
	@race=-race; \
	if ! why=$$(go build -race runtime/race 2>&1); then \
		race=; \
		say() { echo "************************************************************************"; \
			echo "*** WITHOUT THE RACE DETECTOR: it cannot be built here."; \
			echo "*** $$why"; \
			echo "*** A C compiler and its headers (on Debian: gcc, libc6-dev) enable it."; \
			echo "************************************************************************"; }; \
		say; \
	fi; \
	$(call each,test,"$(CURDIR)/.ci/test" "$$race -count=1 -timeout=20m" ./...); \
	if [ -z "$$race" ]; then say; fi; \
	if ! command -v chromium >/dev/null && ! command -v google-chrome >/dev/null && [ -z "$$BREAKWATER_CHROMIUM" ]; then \
		echo "*** NOT RUN: the browser tests of the live page (liveres/e2e). They need chromium."; \
	fi

check: format vet lint race tidy ## Run all that must hold before a commit: format, vet, lint, race tests, tidy

format: ## Fail if a file is not gofmt'd
	@files=$$("$$(go env GOROOT)/bin/gofmt" -s -l .) || exit 1; \
	if [ -n "$$files" ]; then echo "gofmt -s -w is needed for:"; echo "$$files"; exit 1; fi; \
	echo "==> format: all files"

vet: ## Run go vet on every module
	@$(call each,vet,go vet ./...)

lint: ## Run golangci-lint on every module
	@$(call each,lint,go run $(GOLANGCI_LINT) run --config "$(CURDIR)/.golangci.yml" --allow-serial-runners ./...)

race: ## Test the root module with the race detector, COUNT times in shuffled order
	@echo "==> race: ."
	@go test -race -count=$(COUNT) -shuffle=on -timeout=60m ./...

tidy: ## Fail if a go.mod or go.sum is not tidy
	@$(call each,tidy,go mod tidy -diff)

bench: ## Measure this library beside its peers, in under ten minutes; ARGS=-h explains its flags
	@go run -C benchmarks . $(ARGS)

microbench: ## Run the Go benchmarks of the root module; BENCH selects
	@go test -run '^$$' -bench '$(BENCH)' -benchmem ./...

fuzz: ## Fuzz every target of every module for FUZZTIME (a duration, or runs: 1000x)
	@$(call each,fuzz,"$(CURDIR)/.ci/fuzz" $(FUZZTIME))

rules: ## Check and test the alert rules with promtool, which takes some minutes to build the first time
	@go run $(PROMTOOL) check rules examples/grafana/rules/*.rules.yml
	@go run $(PROMTOOL) test rules examples/grafana/rules/tests/*.test.yml

dashboards: ## Check the dashboards against the types that Grafana publishes; needs node and npm
	@command -v node >/dev/null && command -v npm >/dev/null || { \
		echo "make dashboards needs node (20 or later) and npm; on Debian: apt-get install nodejs npm" >&2; exit 1; }
	@cd examples/grafana/schema && npm ci --silent && npm run --silent check

dashboard-shots: ## Draw both dashboards in bin/dashboard-shots, during and after an outage; needs node, npm and chromium
	@command -v node >/dev/null && command -v npm >/dev/null && command -v "$${BREAKWATER_CHROMIUM:-chromium}" >/dev/null || { \
		echo "make dashboard-shots needs node (20 or later), npm and chromium; on Debian: apt-get install nodejs npm chromium fonts-dejavu-core" >&2; exit 1; }
	@echo "==> Grafana's libraries"; cd examples/grafana/preview && npm ci --silent && \
		npm run --silent build -- --outDir "$(CURDIR)/bin/dashboard-preview" --emptyOutDir --logLevel error
	@echo "==> a run of the demo"; go test -C examples/grafana ./dashboards -count=1 -run '^TestRecord$$' -record "$(CURDIR)/bin/dashboard-preview/recording.json"
	@go build -C examples/grafana -o "$(CURDIR)/bin/dashboard-server" ./preview/server
	@echo "==> the pictures"; node examples/grafana/preview/shots.mjs bin/dashboard-server bin/dashboard-preview bin/dashboard-shots

# The program is built and then takes make's place, so that a signal reaches it.
STACKTEST = go build -C examples/grafana -o "$(CURDIR)/bin/stacktest" ./stacktest && exec bin/stacktest

stack-test: ## Run the stack without containers, with an outage, and check what arrives; ARGS=-h explains its flags
	@$(STACKTEST) $(ARGS)

compose-test: ## The same with docker compose, in an engine started for it (root on Linux)
	@$(STACKTEST) -compose $(ARGS)

# Compose wants the password for everything, also where it has no use for it.
COMPOSE_WITHOUT_PASSWORD = GRAFANA_ADMIN_PASSWORD="$${GRAFANA_ADMIN_PASSWORD:-unused}" docker compose

up: ## Start the stack with Docker; GRAFANA_ADMIN_PASSWORD is the password of admin
	@docker compose up --build --detach $(ARGS)
	@echo
	@echo "Grafana       http://127.0.0.1:3000   user admin; dashboards are in the folder Breakwater"
	@echo "Prometheus    http://127.0.0.1:9090/alerts"
	@echo "Alertmanager  http://127.0.0.1:9093"
	@echo "Jaeger        http://127.0.0.1:16686"
	@echo "The demo's log, with the alerts it is sent: make logs ARGS=demo"

down: ## Stop the stack; ARGS=-v removes what it has stored
	@$(COMPOSE_WITHOUT_PASSWORD) down $(ARGS)

logs: ## Follow what the stack prints; ARGS=demo is the demo alone
	@$(COMPOSE_WITHOUT_PASSWORD) logs --follow $(ARGS)

cover: ## Print the statement coverage of the root module; the profile is coverage.out
	@go test -coverpkg=./... -coverprofile=coverage.out ./...
	@go tool cover -func=coverage.out
