"""The engine interface and the engines behind it: vLLM, an OpenAI-compatible upstream, the simulated one."""
