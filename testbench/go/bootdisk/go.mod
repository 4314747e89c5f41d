module llm-release/testbench/bootdisk

go 1.26.6
