"""How a benchmark tells its result: tables and figures, pictures, and the paper's figures."""
