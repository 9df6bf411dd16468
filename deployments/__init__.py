"""What runs on the cluster: model servers, performance table, dispatcher, evaluator, learner."""
