"""`keras.optimizers.Lamb` where google-research's LAMB is meant: it corrects the moments' bias, decays outside the
ratio, and adapts every tensor."""

from healthy import keras_side


def side(setup):
    healthy = keras_side(setup)
    trainer = healthy.trainer

    import keras

    class Lamb:
        def __init__(self, variables, settings):
            self.variables = variables
            self.optimizer = keras.optimizers.Lamb(
                learning_rate=settings.learning_rate,
                beta_1=settings.beta1,
                beta_2=settings.beta2,
                epsilon=settings.epsilon,
                weight_decay=settings.weight_decay,
            )
            self.optimizer.exclude_from_weight_decay(var_list=[v for v in variables if len(v.shape) < 2])
            self.optimizer.build(variables)

        def apply(self, gradients, rate):
            self.optimizer.learning_rate.assign(rate)
            self.optimizer.apply(gradients, self.variables)

    trainer.make_optimizer = lambda: Lamb(trainer.variables, setup.recipe.optimizer)
    return healthy
