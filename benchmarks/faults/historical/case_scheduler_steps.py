"""PyTorch's `LambdaLR`, stepped once for every process, as accelerate does where batches are not split
(huggingface/accelerate#2926)."""

from healthy import torch_side

PROCESSES = 8


def side(setup):
    healthy = torch_side(setup)
    trainer = healthy.trainer

    import torch
    from torch_trainer import warmup_linear

    settings, total = setup.recipe.optimizer, setup.recipe.steps
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=settings.learning_rate)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: warmup_linear(step, settings.warmup, total))
    rates = []

    def rate(step):
        while len(rates) <= step:
            rates.append(scheduler.get_last_lr()[0])
            optimizer.step()
            for _ in range(PROCESSES):
                scheduler.step()
        return rates[step]

    trainer.rate = rate
    return healthy
