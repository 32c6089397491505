"""What a buyer signs: cost, energy, fit, crossover and projection, each number with its class.

Measured figures come from runs, published ones from `published`, projected ones from `projection`
and assumed ones from the buyer's own inputs; no cell mixes them without saying so. Everything here
is torch-free except `work`, which asks the model what it holds and what a forward moves.
"""
