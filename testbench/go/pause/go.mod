module llm-release/testbench/pause

go 1.26.0
