"""Assignment 3: which of your functions is which part. Only for answers in files of your own.

Take away the # before the parts that you have, and put your names in. Hand this file in together with the files that it
imports from, as a folder or a zip. A notebook needs none of this.
"""

# from my_code import my_function as add_noise
# from my_code import my_function as guess_clean
# from my_code import my_function as ddim_step
# from my_code import my_function as drop_captions
# from my_code import my_function as training_step
# from my_code import my_function as share_with_error
